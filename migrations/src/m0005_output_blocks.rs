//! What large outputs are known by: the hash over the hashes of their blocks, which is there before the content travels.
//!
//! Their `sha256`, which has to go through the content in one sequence, is the empty text until something needs it.

use sea_orm_migration::prelude::*;

pub(crate) const NAME: &str = "m0005_output_blocks";

pub(crate) struct OutputBlocks;

impl MigrationName for OutputBlocks {
    fn name(&self) -> &str {
        NAME
    }
}

#[async_trait::async_trait]
impl MigrationTrait for OutputBlocks {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["output_files", "output_pulls"] {
            let added = Table::alter()
                .table(table)
                .add_column(ColumnDef::new("blocks").text().null())
                .take();
            manager.alter_table(added).await?;
        }
        Ok(())
    }
}
