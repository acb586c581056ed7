//! What Qwen2 has of its own; everything else is the block in [`crate::llama`].
//!
//! The projections to queries, keys and values have biases. Some checkpoints confine layers to a sliding window, which is
//! refused: what such a model computes past the window is not what we would compute.

use crate::config::{Problem, Written};

/// The field that stands in the checkpoint when windows are on.
const WINDOW: &str = "use_sliding_window";

/// `max_window_layers` where a checkpoint does not say.
const MAX_WINDOW_LAYERS: usize = 28;

/// What of a Qwen2 configuration cannot be honoured.
pub(crate) fn problem(written: &Written) -> Option<Problem> {
    let on = written.use_sliding_window == Some(true) && written.sliding_window.is_some();
    let full = written.max_window_layers.unwrap_or(MAX_WINDOW_LAYERS);
    let layers = written.layer_types.iter().flatten();
    let sliding = layers.filter(|kind| *kind != "full_attention").count();
    if sliding > 0 {
        return Some(("layer_types", "only `full_attention` is supported".into()));
    }
    (on && written.layer_types.is_none() && full < written.num_hidden_layers).then(|| {
        (WINDOW, format!("layers from {full} on see only a part of the text; only false is supported"))
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{config, fixture};

    fn parse(change: impl FnOnce(&mut Value)) -> Result<crate::llama::LlamaConfig, Problem> {
        let bytes = std::fs::read(fixture::folder("tiny-qwen2").join("config.json")).unwrap();
        let mut value: Value = serde_json::from_slice(&bytes).unwrap();
        change(&mut value);
        config::resolve(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn sliding_windows_are_refused_only_where_they_are_used() {
        assert!(parse(|_| {}).is_ok());
        // On, but every layer is below `max_window_layers`.
        assert!(parse(|config| config["use_sliding_window"] = json!(true)).is_ok());
        let used = |config: &mut Value| {
            config["use_sliding_window"] = json!(true);
            config["max_window_layers"] = json!(1);
        };
        let (field, problem) = parse(used).unwrap_err();
        assert_eq!(field, "use_sliding_window");
        assert!(problem.contains("layers from 1 on"), "{problem}");
        let layers = |config: &mut Value| {
            config["layer_types"] = json!(["full_attention", "sliding_attention"]);
        };
        assert_eq!(parse(layers).unwrap_err().0, "layer_types");
    }

    #[test]
    fn logits_are_those_of_transformers() {
        // bf16 weights in two shards; both sides compute in f32 and round differently.
        fixture::assert_reference_logits("tiny-qwen2", &fixture::loaded("tiny-qwen2"), 1e-5);
    }

    #[test]
    fn the_gguf_twin_is_the_same_model() {
        let twin = fixture::loaded("tiny-qwen2.gguf");
        fixture::assert_reference_logits("tiny-qwen2", &twin, 1e-5);
        assert!(!twin.config.tie_word_embeddings);
    }
}
