//! The table `prompts`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "prompts")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) text: String,
    pub(crate) negative: Option<String>,
    pub(crate) inputs: String,
    pub(crate) parent: Option<String>,
    pub(crate) made_by: Option<String>,
    pub(crate) created_at: i64,
    /// Text and name in lower case, so that both databases find the same; their own `lower` differ beyond ASCII.
    pub(crate) search: String,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
