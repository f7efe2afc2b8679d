//! What is known of the outputs of runs. A run may have as many as its manifest has places, so they are read some at a
//! time.

use super::entity::{output_file, output_pull};
use super::error::Doing as _;
use super::output::{ROWS, identity};
use super::value::time;
use super::{Store, StoreError, row};
use crate::model::{OutputRecord, OutputsTotal};
use farrun_protocol::RunId;
use sea_orm::sea_query::{Alias, Expr, ExprTrait as _};
use sea_orm::{
    ColumnTrait as _, Condition, EntityTrait as _, JoinType, PaginatorTrait as _, QueryFilter as _,
    QueryOrder as _, QuerySelect as _,
};
use std::collections::HashMap;

const DOING: &str = "reading the outputs of a run";

impl Store {
    /// The outputs of a run, by path, and when this machine pulled them.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn outputs(&self, id: &RunId) -> Result<Vec<OutputRecord>, StoreError> {
        let mut outputs = Vec::new();
        let mut after = None;
        loop {
            let (mut page, next) = self.outputs_page(id, after.as_deref(), ROWS).await?;
            outputs.append(&mut page);
            if next.is_none() {
                break;
            }
            after = next;
        }
        // Here, because the order of text differs between databases.
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(outputs)
    }

    /// At most `most` outputs of a run behind the path `after`, and behind which path the next ones are. The pages are in
    /// an order of the database's own; each is by path.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn outputs_page(
        &self,
        id: &RunId,
        after: Option<&str>,
        most: usize,
    ) -> Result<(Vec<OutputRecord>, Option<String>), StoreError> {
        let mut query = output_file::Entity::find().filter(output_file::Column::RunId.eq(id.as_str()));
        if let Some(after) = after {
            query = query.filter(output_file::Column::Path.gt(after));
        }
        let files = query
            .order_by_asc(output_file::Column::Path)
            .limit(most as u64)
            .all(&self.connection)
            .await
            .doing(&self.database, DOING)?;
        let next = files.last().filter(|_| files.len() == most);
        let next = next.map(|last| last.path.clone());
        let mut outputs = self.records(id, files).await?;
        outputs.sort_by(|one, other| one.path.cmp(&other.path));
        Ok((outputs, next))
    }

    /// The output of a run that has this path.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn output(&self, id: &RunId, path: &str) -> Result<Option<OutputRecord>, StoreError> {
        let file = output_file::Entity::find_by_id((id.to_string(), path.to_owned()))
            .one(&self.connection)
            .await
            .doing(&self.database, DOING)?;
        Ok(self.records(id, file.into_iter().collect()).await?.pop())
    }

    async fn records(
        &self,
        id: &RunId,
        files: Vec<output_file::Model>,
    ) -> Result<Vec<OutputRecord>, StoreError> {
        let pulled = self.pulled_of(id, &files).await?;
        let record = row::record(&self.database, id.as_str());
        let mut outputs = Vec::with_capacity(files.len());
        for file in files {
            let hash = identity(&file.sha256, &file.blocks);
            let pulled_at = pulled.get(&file.path).filter(|(pulled, _)| pulled == hash);
            // One without any hash is damaged.
            let sha256 = (!file.sha256.is_empty() || file.blocks.is_none()).then_some(&*file.sha256);
            outputs.push(OutputRecord {
                size: record.unsigned("size", file.size)?,
                sha256: record.parse_some("sha256", sha256)?,
                blocks: record.parse_some("blocks", file.blocks.as_deref())?,
                pulled_at: pulled_at.map(|(_, at)| time(*at)),
                path: file.path,
            });
        }
        Ok(outputs)
    }

    /// What this machine pulled of these files: by path, what it was and when.
    async fn pulled_of(
        &self,
        id: &RunId,
        files: &[output_file::Model],
    ) -> Result<HashMap<String, (String, i64)>, StoreError> {
        let mut pulled = HashMap::new();
        // As many names at once as both databases accept.
        for files in files.chunks(ROWS) {
            let paths = files.iter().map(|file| file.path.as_str());
            let pulls = output_pull::Entity::find()
                .filter(output_pull::Column::RunId.eq(id.as_str()))
                .filter(output_pull::Column::Machine.eq(&*self.machine))
                .filter(output_pull::Column::Path.is_in(paths))
                .all(&self.connection)
                .await
                .doing(&self.database, DOING)?;
            pulled.extend(pulls.into_iter().map(|pull| {
                let hash = identity(&pull.sha256, &pull.blocks).to_owned();
                (pull.path, (hash, pull.pulled_at))
            }));
        }
        Ok(pulled)
    }

    /// How many outputs of a run are known, how large they are, and how many of them this machine has.
    ///
    /// # Errors
    /// The database could not be read.
    pub async fn outputs_total(&self, id: &RunId) -> Result<OutputsTotal, StoreError> {
        let of_run = || output_file::Entity::find().filter(output_file::Column::RunId.eq(id.as_str()));
        let bytes = output_file::Column::Size.sum().cast_as(Alias::new("bigint"));
        let (files, bytes): (i64, Option<i64>) = of_run()
            .select_only()
            .column_as(output_file::Column::Path.count(), "files")
            .column_as(bytes, "bytes")
            .into_tuple()
            .one(&self.connection)
            .await
            .doing(&self.database, DOING)?
            .unwrap_or_default();
        let here = output_file::Entity::belongs_to(output_pull::Entity)
            .from((output_file::Column::RunId, output_file::Column::Path))
            .to((output_pull::Column::RunId, output_pull::Column::Path));
        let same = |of_file: output_file::Column, of_pull: output_pull::Column| {
            Expr::col((output_file::Entity, of_file)).equals((output_pull::Entity, of_pull))
        };
        // As `identity` says of two rows.
        let by_content = Condition::all()
            .add(output_file::Column::Blocks.is_null())
            .add(output_pull::Column::Blocks.is_null())
            .add(same(output_file::Column::Sha256, output_pull::Column::Sha256));
        let by_blocks = same(output_file::Column::Blocks, output_pull::Column::Blocks);
        let pulled = of_run()
            .join(JoinType::InnerJoin, here.into())
            .filter(output_pull::Column::Machine.eq(&*self.machine))
            .filter(Condition::any().add(by_blocks).add(by_content))
            .count(&self.connection)
            .await
            .doing(&self.database, DOING)?;
        let record = row::record(&self.database, id.as_str());
        Ok(OutputsTotal {
            files: record.unsigned("count", files)?,
            bytes: record.unsigned("size", bytes.unwrap_or_default())?,
            pulled,
        })
    }
}
