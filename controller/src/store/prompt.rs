//! Prompts.

use super::entity::prompt::{Column, Entity, Model};
use super::entity::run;
use super::error::{Doing as _, is_duplicate};
use super::value::{ESCAPE, Record, literal, nanoseconds, time};
use super::{PromptFilter, Store, StoreError};
use crate::model::Prompt;
use farrun_protocol::PromptId;
use sea_orm::sea_query::LikeExpr;
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, IntoActiveModel as _, PaginatorTrait as _,
    QueryFilter as _, QueryOrder as _, QuerySelect as _,
};

/// Most prompts that one reference may name; more are as ambiguous.
const MAX_FOUND: u64 = 20;

impl Store {
    /// Adds a prompt.
    ///
    /// # Errors
    /// [`StoreError::PromptNameTaken`] when another has its name.
    pub async fn create_prompt(&self, prompt: &Prompt) -> Result<(), StoreError> {
        let doing = "adding a prompt";
        let row = self.prompt_row(prompt)?.into_active_model();
        let error = match Entity::insert(row).exec_without_returning(&self.connection).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        if is_duplicate(&error) && self.has_prompt_named(&prompt.name).await? {
            return Err(StoreError::PromptNameTaken {
                name: prompt.name.clone(),
            });
        }
        Err(error).doing(&self.database, doing)
    }

    async fn has_prompt_named(&self, name: &str) -> Result<bool, StoreError> {
        let count = Entity::find()
            .filter(Column::Name.eq(name))
            .count(&self.connection)
            .await
            .doing(&self.database, "looking for a prompt's name")?;
        Ok(count > 0)
    }

    /// The prompt of this id.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn prompt(&self, id: &PromptId) -> Result<Option<Prompt>, StoreError> {
        let row = Entity::find_by_id(id.as_str())
            .one(&self.connection)
            .await
            .doing(&self.database, "reading a prompt")?;
        row.map(|row| self.prompt_model(row)).transpose()
    }

    /// The prompts whose id begins with `reference` or whose name it is, newest first; none for an empty one.
    /// At most 20: more are as ambiguous.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn find_prompts(&self, reference: &str) -> Result<Vec<Prompt>, StoreError> {
        if reference.is_empty() || reference.contains('\0') {
            return Ok(Vec::new());
        }
        // SQLite's LIKE ignores the case of ASCII and PostgreSQL's does not; ids have no capitals.
        let prefix = literal(&reference.to_ascii_lowercase());
        let pattern = LikeExpr::new(format!("{prefix}%")).escape(ESCAPE);
        let named = Condition::any()
            .add(Column::Name.eq(reference))
            .add(Column::Id.like(pattern));
        self.list_prompts(named, Some(MAX_FOUND)).await
    }

    /// Prompts, newest first.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn prompts(&self, filter: &PromptFilter) -> Result<Vec<Prompt>, StoreError> {
        let mut condition = Condition::all();
        if let Some(search) = &filter.search {
            if search.contains('\0') {
                return Ok(Vec::new());
            }
            let pattern = format!("%{}%", literal(&search.to_lowercase()));
            condition = condition.add(Column::Search.like(LikeExpr::new(pattern).escape(ESCAPE)));
        }
        self.list_prompts(condition, filter.limit).await
    }

    async fn list_prompts(
        &self,
        condition: Condition,
        limit: Option<u64>,
    ) -> Result<Vec<Prompt>, StoreError> {
        let rows = Entity::find()
            .filter(condition)
            .order_by_desc(Column::CreatedAt)
            .order_by_desc(Column::Id)
            .limit(limit)
            .all(&self.connection)
            .await
            .doing(&self.database, "reading prompts")?;
        rows.into_iter().map(|row| self.prompt_model(row)).collect()
    }

    /// Deletes a prompt, with its runs when `with_runs`; false when there was none.
    ///
    /// # Errors
    /// [`StoreError::PromptHasRuns`] when it has runs that were to stay.
    pub async fn delete_prompt(&self, id: &PromptId, with_runs: bool) -> Result<bool, StoreError> {
        let doing = "deleting a prompt";
        let transaction = self.begin(doing).await?;
        let of_prompt = run::Column::PromptId.eq(id.as_str());
        let runs = run::Entity::find()
            .filter(of_prompt.clone())
            .count(&transaction)
            .await
            .doing(&self.database, doing)?;
        if runs > 0 && !with_runs {
            return Err(StoreError::PromptHasRuns {
                prompt: id.clone(),
                runs,
            });
        }
        run::Entity::delete_many()
            .filter(of_prompt)
            .exec(&transaction)
            .await
            .doing(&self.database, doing)?;
        let done = Entity::delete_by_id(id.as_str())
            .exec(&transaction)
            .await
            .doing(&self.database, doing)?;
        transaction.commit().await.doing(&self.database, doing)?;
        Ok(done.rows_affected > 0)
    }

    fn prompt_row(&self, prompt: &Prompt) -> Result<Model, StoreError> {
        self.prompt_record(prompt.id.as_str()).plain(&[
            ("name", Some(&prompt.name)),
            ("text", Some(&prompt.text)),
            ("negative", prompt.negative.as_deref()),
        ])?;
        Ok(Model {
            id: prompt.id.to_string(),
            name: prompt.name.clone(),
            text: prompt.text.clone(),
            negative: prompt.negative.clone(),
            // A map from text to text always serialises.
            inputs: serde_json::to_string(&prompt.inputs).unwrap_or_default(),
            parent: prompt.parent.clone().map(String::from),
            made_by: prompt.made_by.clone().map(String::from),
            created_at: nanoseconds(prompt.created_at),
            search: format!("{}\n{}", prompt.name, prompt.text).to_lowercase(),
        })
    }

    fn prompt_model(&self, row: Model) -> Result<Prompt, StoreError> {
        let record = self.prompt_record(&row.id);
        Ok(Prompt {
            id: record.parse("id", &row.id)?,
            inputs: record.json("inputs", &row.inputs)?,
            parent: record.parse_some("parent", row.parent.as_deref())?,
            made_by: record.parse_some("made_by", row.made_by.as_deref())?,
            name: row.name,
            text: row.text,
            negative: row.negative,
            created_at: time(row.created_at),
        })
    }

    fn prompt_record(&self, id: &str) -> Record<'_> {
        Record {
            database: &self.database,
            of: format!("prompt {id}"),
        }
    }
}
