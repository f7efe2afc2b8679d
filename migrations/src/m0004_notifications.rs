//! Which machine has told its user of which run's end: at most once each.

use sea_orm_migration::prelude::*;

pub(crate) const NAME: &str = "m0004_notifications";

pub(crate) struct Notifications;

impl MigrationName for Notifications {
    fn name(&self) -> &str {
        NAME
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Notifications {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = Table::create()
            .table("notifications")
            .col(ColumnDef::new("run_id").text().not_null())
            .col(ColumnDef::new("machine").text().not_null())
            .col(ColumnDef::new("at").big_integer().not_null())
            .primary_key(Index::create().col("run_id").col("machine"))
            .take();
        manager.create_table(table).await
    }
}
