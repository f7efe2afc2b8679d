//! The schema of farrun's database, as add-only migrations that SQLite and PostgreSQL both understand.
//!
//! A migration that was ever released is never changed: [`MIGRATIONS`] only grows at its end. Each brings data of
//! the schema before it along. Whoever applies them holds a lock and one transaction around all of them, so that a
//! kill leaves the database as it was.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DatabaseTransaction;

mod m0001_first;
mod m0002_gpus;
mod m0003_diagnosis;
mod m0004_notifications;
mod m0005_output_blocks;

/// Names of all migrations this program knows, oldest first.
pub const MIGRATIONS: &[&str] = &[
    m0001_first::NAME,
    m0002_gpus::NAME,
    m0003_diagnosis::NAME,
    m0004_notifications::NAME,
    m0005_output_blocks::NAME,
];

/// Name of the table that records what was applied.
pub const APPLIED: &str = "seaql_migrations";

/// How a database stands to [`MIGRATIONS`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Everything is applied.
    Current,
    /// Some migrations are missing, in an empty database all of them.
    Behind,
    /// It holds a migration that this program does not know.
    Newer {
        /// Name of the first unknown migration.
        migration: String,
    },
}

/// Compares what was applied, in any order, with [`MIGRATIONS`].
pub fn compare(applied: &[String]) -> Standing {
    if let Some(unknown) = applied.iter().find(|name| !MIGRATIONS.contains(&name.as_str())) {
        return Standing::Newer {
            migration: unknown.clone(),
        };
    }
    if MIGRATIONS
        .iter()
        .all(|known| applied.iter().any(|name| name == known))
    {
        Standing::Current
    } else {
        Standing::Behind
    }
}

/// Looks up how a database stands, without changing it.
///
/// # Errors
/// The database could not be read.
pub async fn inspect<'c>(database: impl IntoSchemaManagerConnection<'c>) -> Result<Standing, DbErr> {
    let manager = SchemaManager::new(database);
    if !manager.has_table(APPLIED).await? {
        return Ok(Standing::Behind);
    }
    let query = Query::select()
        .column("version")
        .from(APPLIED)
        .order_by("version", Order::Asc)
        .take();
    let rows = manager.get_connection().query_all(&query).await?;
    let applied = rows
        .iter()
        .map(|row| row.try_get("", "version"))
        .collect::<Result<Vec<String>, DbErr>>()?;
    Ok(compare(&applied))
}

/// Applies what is missing. The caller holds the lock and the transaction.
///
/// # Errors
/// A statement was refused; the transaction must be rolled back.
pub async fn apply(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    Migrator::up(transaction, None).await
}

struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_first::First),
            Box::new(m0002_gpus::Gpus),
            Box::new(m0003_diagnosis::Diagnosis),
            Box::new(m0004_notifications::Notifications),
            Box::new(m0005_output_blocks::OutputBlocks),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_names_is_what_the_migrator_applies() {
        let names: Vec<String> = Migrator::migrations()
            .iter()
            .map(|migration| migration.name().to_owned())
            .collect();
        assert_eq!(names, MIGRATIONS);
        assert!(names.is_sorted());
    }

    #[test]
    fn an_unknown_migration_makes_a_database_newer_even_when_others_are_missing() {
        let unknown = "m9999_future".to_owned();
        let newer = Standing::Newer {
            migration: unknown.clone(),
        };
        assert_eq!(compare(std::slice::from_ref(&unknown)), newer);
        assert_eq!(compare(&[MIGRATIONS[0].to_owned(), unknown]), newer);
        assert_eq!(compare(&[]), Standing::Behind);
        let all: Vec<String> = MIGRATIONS.iter().map(|&name| name.to_owned()).collect();
        assert_eq!(compare(&all), Standing::Current);
    }
}
