//! The first schema.
//!
//! Times are nanoseconds since 1970 in UTC, which both databases keep exactly. `runs` names prompts and hosts
//! without a foreign key: a run is kept when its host is removed, and an adopted run may name a prompt that only
//! another database knew. What depends on the machine that looks, where the mirror and the outputs lie, has rows
//! of its own, because several machines may share one database.

use sea_orm_migration::prelude::*;

pub(crate) const NAME: &str = "m0001_first";

pub(crate) struct First;

impl MigrationName for First {
    fn name(&self) -> &str {
        NAME
    }
}

#[async_trait::async_trait]
impl MigrationTrait for First {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut tables = vec![meta(), hosts(), prompts(), runs(), run_paths(), run_events()];
        tables.extend([output_files(), output_pulls()]);
        for table in tables {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

fn table(name: &'static str) -> TableCreateStatement {
    Table::create().table(name).take()
}

fn text(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().not_null().take()
}

fn text_or_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).text().null().take()
}

fn number(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().not_null().take()
}

fn number_or_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).big_integer().null().take()
}

fn small_or_null(name: &'static str) -> ColumnDef {
    ColumnDef::new(name).integer().null().take()
}

fn meta() -> TableCreateStatement {
    table("meta")
        .col(text("name").primary_key())
        .col(text("value"))
        .take()
}

fn hosts() -> TableCreateStatement {
    table("hosts")
        .col(text("name").primary_key())
        .col(text("settings"))
        .col(text_or_null("host_id"))
        .col(text_or_null("platform"))
        .col(number("added_at"))
        .col(number_or_null("last_seen"))
        .take()
}

fn prompts() -> TableCreateStatement {
    table("prompts")
        .col(text("id").primary_key())
        .col(text("name").unique_key())
        .col(text("text"))
        .col(text_or_null("negative"))
        .col(text("inputs"))
        .col(text_or_null("parent"))
        .col(text_or_null("made_by"))
        .col(number("created_at"))
        .col(text("search"))
        .take()
}

fn runs() -> TableCreateStatement {
    table("runs")
        .col(text("id").primary_key())
        .col(text_or_null("prompt_id"))
        .col(text_or_null("parent_run"))
        .col(text("host"))
        .col(text("controller_id"))
        .col(text("operation"))
        .col(text("name"))
        .col(text_or_null("recipe"))
        .col(text("status"))
        .col(text_or_null("reason"))
        .col(text_or_null("error_message"))
        .col(small_or_null("exit_code"))
        .col(small_or_null("signal"))
        .col(number_or_null("log_length"))
        .col(text_or_null("log_sha256"))
        .col(text_or_null("container_id"))
        .col(text_or_null("image_digest"))
        .col(text("gpus"))
        .col(text_or_null("key").unique_key())
        .col(text_or_null("owner"))
        .col(number("created_at"))
        .col(number_or_null("launched_at"))
        .col(number_or_null("started_at"))
        .col(number_or_null("ended_at"))
        .col(number_or_null("confirmed_at"))
        .col(number("updated_at"))
        // Last, because it is large and lists leave it out.
        .col(text("spec"))
        .take()
}

fn run_paths() -> TableCreateStatement {
    table("run_paths")
        .col(text("run_id"))
        .col(text("machine"))
        .col(text_or_null("log_path"))
        .col(text_or_null("outputs_path"))
        .col(ColumnDef::new("log_complete").boolean().not_null())
        .primary_key(Index::create().col("run_id").col("machine"))
        .foreign_key(&mut of_run("run_paths"))
        .take()
}

fn run_events() -> TableCreateStatement {
    table("run_events")
        .col(number("id").auto_increment().primary_key())
        .col(text("run_id"))
        .col(number("at"))
        .col(text("kind"))
        .col(text("detail"))
        .foreign_key(&mut of_run("run_events"))
        .take()
}

fn output_files() -> TableCreateStatement {
    table("output_files")
        .col(text("run_id"))
        .col(text("path"))
        .col(number("size"))
        .col(text("sha256"))
        .primary_key(Index::create().col("run_id").col("path"))
        .foreign_key(&mut of_run("output_files"))
        .take()
}

fn output_pulls() -> TableCreateStatement {
    table("output_pulls")
        .col(text("run_id"))
        .col(text("path"))
        .col(text("machine"))
        // A file that changed on the host since counts as not pulled.
        .col(text("sha256"))
        .col(number("pulled_at"))
        .primary_key(Index::create().col("run_id").col("path").col("machine"))
        .foreign_key(&mut of_run("output_pulls"))
        .take()
}

fn of_run(from: &'static str) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(format!("fk_{from}_run"))
        .from(from, "run_id")
        .to("runs", "id")
        .on_delete(ForeignKeyAction::Cascade)
        .take()
}

fn indexes() -> Vec<IndexCreateStatement> {
    let index = |name: &'static str, table: &'static str, columns: &[&'static str]| {
        let mut index = Index::create().name(name).table(table).take();
        for column in columns {
            index.col(*column);
        }
        index
    };
    vec![
        index("runs_created", "runs", &["created_at", "id"]),
        index("runs_status", "runs", &["status", "created_at"]),
        index("runs_host_status", "runs", &["host", "status", "created_at"]),
        index("runs_prompt", "runs", &["prompt_id", "created_at"]),
        index("prompts_created", "prompts", &["created_at", "id"]),
        index("run_events_run", "run_events", &["run_id", "id"]),
    ]
}
