//! What was found to be the cause of a run's end, and where its evidence lies on each machine.

use sea_orm_migration::prelude::*;

pub(crate) const NAME: &str = "m0003_diagnosis";

pub(crate) struct Diagnosis;

impl MigrationName for Diagnosis {
    fn name(&self) -> &str {
        NAME
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Diagnosis {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column at a time.
        for column in [
            ColumnDef::new("finding").text().null().take(),
            ColumnDef::new("finding_text").text().null().take(),
            ColumnDef::new("diagnosed_at").big_integer().null().take(),
        ] {
            manager.alter_table(added("runs", column)).await?;
        }
        let path = ColumnDef::new("diagnostics_path").text().null().take();
        manager.alter_table(added("run_paths", path)).await
    }
}

fn added(table: &'static str, column: ColumnDef) -> TableAlterStatement {
    Table::alter().table(table).add_column(column).take()
}
