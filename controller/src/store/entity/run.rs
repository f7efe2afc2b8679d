//! The table `runs`.

use sea_orm::entity::prelude::*;

#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "runs")]
pub(crate) struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub(crate) id: String,
    pub(crate) prompt_id: Option<String>,
    pub(crate) parent_run: Option<String>,
    pub(crate) host: String,
    pub(crate) controller_id: String,
    pub(crate) operation: String,
    pub(crate) name: String,
    pub(crate) recipe: Option<String>,
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) error_message: Option<String>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) log_length: Option<i64>,
    pub(crate) log_sha256: Option<String>,
    pub(crate) container_id: Option<String>,
    pub(crate) image_digest: Option<String>,
    pub(crate) gpus: String,
    pub(crate) key: Option<String>,
    pub(crate) owner: Option<String>,
    pub(crate) created_at: i64,
    pub(crate) launched_at: Option<i64>,
    pub(crate) started_at: Option<i64>,
    pub(crate) ended_at: Option<i64>,
    pub(crate) confirmed_at: Option<i64>,
    pub(crate) updated_at: i64,
    pub(crate) spec: String,
    pub(crate) lease: Option<String>,
    pub(crate) gpu_summary: Option<String>,
    pub(crate) finding: Option<String>,
    pub(crate) finding_text: Option<String>,
    pub(crate) diagnosed_at: Option<i64>,
}

#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub(crate) enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
