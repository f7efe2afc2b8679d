//! Prompts, and how they are found.

use crate::support::{Fixture, on_both, prompt, run};
use chrono::{Duration, Utc};
use farrun::store::{PromptFilter, StoreError};
use farrun_protocol::PromptId;

on_both!(prompts_are_found);

async fn prompts_are_found(fixture: Fixture) {
    let store = fixture.open().await;
    let mut first = prompt("neon_city", "A NEON city, 100% Über_groß");
    first.created_at = Utc::now() - Duration::seconds(5);
    let second = prompt("forest", "A quiet forest!");
    store.create_prompt(&first).await.unwrap();
    store.create_prompt(&second).await.unwrap();
    let taken = store.create_prompt(&prompt("forest", "x")).await;
    assert!(matches!(taken, Err(StoreError::PromptNameTaken { name }) if name == "forest"));
    assert_eq!(store.prompt(&first.id).await.unwrap(), Some(first.clone()));

    let id = first.id.as_str();
    for reference in [id, &id[..id.len() - 2], &id.to_uppercase(), "neon_city"] {
        assert_eq!(
            store.find_prompts(reference).await.unwrap(),
            [first.clone()],
            "{reference}"
        );
    }
    assert_eq!(store.find_prompts("neon").await.unwrap(), [], "a name is whole");
    assert_eq!(store.find_prompts("ps_%").await.unwrap(), []);
    assert_eq!(store.find_prompts("").await.unwrap(), []);
    assert_eq!(store.find_prompts("ps_").await.unwrap().len(), 2);

    let found = async |text: &str| {
        let search = Some(text.to_owned());
        let filter = PromptFilter {
            search,
            ..PromptFilter::default()
        };
        let prompts = store.prompts(&filter).await.unwrap();
        prompts.into_iter().map(|prompt| prompt.name).collect::<Vec<_>>()
    };
    assert_eq!(found("neon C").await, ["neon_city"]);
    assert_eq!(found("ÜBER").await, ["neon_city"]);
    assert_eq!(found("100%").await, ["neon_city"]);
    assert_eq!(found("r_g").await, ["neon_city"]);
    assert_eq!(found("n%c").await, [""; 0]);
    assert_eq!(found("t!").await, ["forest"]);
    assert_eq!(found("A ").await, ["forest", "neon_city"]);
    let newest = PromptFilter {
        limit: Some(1),
        ..PromptFilter::default()
    };
    assert_eq!(
        store.prompts(&newest).await.unwrap(),
        std::slice::from_ref(&second)
    );

    let of_first = run(&store, Some(&first.id));
    store.create_run(&of_first).await.unwrap();
    let kept = store.delete_prompt(&first.id, false).await;
    assert!(matches!(kept, Err(StoreError::PromptHasRuns { runs: 1, .. })));
    assert!(store.delete_prompt(&first.id, true).await.unwrap());
    assert_eq!(store.run(&of_first.id).await.unwrap(), None);
    assert!(store.delete_prompt(&second.id, false).await.unwrap());
    assert!(!store.delete_prompt(&PromptId::random(), false).await.unwrap());
    store.close().await.unwrap();
}
