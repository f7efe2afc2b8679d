//! Every way in which a run can end, on real containers: what the first contact after it says. `docs/outcomes.md` is
//! this table.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot go on must stop"
)]

mod cell;
mod cells;
mod engines;
mod foreign;
mod page;
mod silent;
#[path = "../../../remote-agent/tests/serve_support/mod.rs"]
mod support;
mod world;

use cell::Cell;
use farrun_protocol::spec::RunSpec;
use farrun_tests::Engine;
use std::sync::Arc;
use tokio::task::JoinSet;
use world::World;

/// Launches cells side by side.
async fn begin(world: &Arc<World>, cells: Vec<Cell>) -> Vec<(Cell, RunSpec)> {
    let mut begun = JoinSet::new();
    for cell in cells {
        let world = Arc::clone(world);
        begun.spawn(async move {
            let _turn = world.abreast.acquire().await.unwrap();
            let spec = cell.begin(&world).await;
            (cell, spec)
        });
    }
    begun.join_all().await
}

/// Sees how they ended, side by side, and names every cell that is not as it should be.
async fn conclude(world: &Arc<World>, begun: Vec<(Cell, RunSpec)>) {
    let mut told = JoinSet::new();
    for (cell, spec) in begun {
        let world = Arc::clone(world);
        told.spawn(async move {
            let _turn = world.abreast.acquire().await.unwrap();
            cell.conclude(&world, &spec).await
        });
    }
    let wrong: Vec<String> = told
        .join_all()
        .await
        .into_iter()
        .filter_map(Result::err)
        .collect();
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn ends_on_an_engine_that_works() {
    let world = Arc::new(World::new(Engine::shared()));
    let begun = begin(&world, cells::all()).await;
    conclude(&world, begun).await;
}
