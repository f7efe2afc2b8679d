//! What GPUs did: the lease and the summary of a run, and what each host said last.
//!
//! A report is JSON of the protocol, kept apart from `hosts`: it is written at each contact and read only when the
//! host is out of reach.

use sea_orm_migration::prelude::*;

pub(crate) const NAME: &str = "m0002_gpus";

pub(crate) struct Gpus;

impl MigrationName for Gpus {
    fn name(&self) -> &str {
        NAME
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Gpus {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column at a time.
        for column in ["lease", "gpu_summary"] {
            let added = Table::alter()
                .table("runs")
                .add_column(ColumnDef::new(column).text().null())
                .take();
            manager.alter_table(added).await?;
        }
        manager.create_table(host_reports()).await
    }
}

fn host_reports() -> TableCreateStatement {
    Table::create()
        .table("host_reports")
        .col(ColumnDef::new("host").text().not_null().primary_key())
        .col(ColumnDef::new("facts").text().null())
        .col(ColumnDef::new("facts_at").big_integer().null())
        .col(ColumnDef::new("gpus").text().null())
        .col(ColumnDef::new("gpus_at").big_integer().null())
        .take()
}
