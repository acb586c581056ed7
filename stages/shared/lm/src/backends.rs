//! The backends of this build beside flex and beside reference numbers; a test is compiled with its backend's feature.
//!
//! `cuda` has none: nobody has built it yet.

use burn::tensor::Device;
use contract::Backend;

use crate::{LanguageModel, device, fixture, real_models, self_test};

fn backend(name: &str) -> Backend {
    Backend { name: name.to_owned(), ..Backend::default() }
}

fn open(name: &str) -> Device {
    device::open(&backend(name)).unwrap()
}

/// It writes what flex writes, and a training step does what it does there; both round 32-bit floats in their own way.
fn assert_equals_flex(name: &str) {
    let test = self_test(name).unwrap();
    fixture::say(&format!("{name}: {test:?}"));
    assert!(test.within(1e-5), "{test:?}");
    assert!(test.tokens > 0, "{test:?}");
}

/// The random checkpoints of `fixtures/`: scaled rotary positions, grouped queries, biases.
fn assert_reads_checkpoints(name: &str) {
    let device = open(name);
    for checkpoint in ["tiny-llama", "tiny-llama3", "tiny-qwen2"] {
        let model = LanguageModel::load(&fixture::folder(checkpoint), &device).unwrap();
        fixture::assert_reference_logits(checkpoint, &model, 1e-5);
    }
}

#[cfg(feature = "tch")]
mod tch {
    use super::*;
    use crate::{encoder, precision};

    #[test]
    fn a_small_model_does_what_it_does_on_flex() {
        assert_equals_flex("tch");
    }

    #[test]
    fn checkpoints_are_what_transformers_computes() {
        assert_reads_checkpoints("tch");
    }

    #[test]
    fn smollm2_is_what_transformers_computes() {
        let Some((model, cases)) = real_models::smollm2(&open("tch")) else { return };
        cases.iter().for_each(|case| real_models::assert_reads_as_transformers(&model, case));
        real_models::assert_writes_as_transformers(&model, &cases);
    }

    #[test]
    fn all_minilm_l6_v2_embeds_as_published() {
        encoder::tests::assert_embeds_as_published(&open("tch"));
    }

    #[test]
    fn it_trains_in_bf16_with_wider_state() {
        let device = open("tch");
        precision::Precision::Bf16.check(&backend("tch"), &device).unwrap();
        precision::tests::overfits_in_bf16(&device);
    }
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::*;
    use crate::precision::Precision;

    #[test]
    fn a_small_model_does_what_it_does_on_flex() {
        assert_equals_flex("wgpu");
    }

    #[test]
    fn checkpoints_are_what_transformers_computes() {
        assert_reads_checkpoints("wgpu");
    }

    /// One prompt, the shortest: where Vulkan is a program on the processor, this takes minutes.
    #[test]
    fn a_prompt_of_smollm2_is_what_transformers_computes() {
        let Some((model, cases)) = real_models::smollm2(&open("wgpu")) else { return };
        let shortest = cases.iter().min_by_key(|case| case.ids.len()).unwrap();
        real_models::assert_reads_as_transformers(&model, shortest);
    }

    #[test]
    fn bf16_is_trained_in_or_refused() {
        let device = open("wgpu");
        match Precision::Bf16.check(&backend("wgpu"), &device) {
            Ok(()) => crate::precision::tests::overfits_in_bf16(&device),
            Err(error) => {
                assert_eq!(error.to_string(), "backend `wgpu` cannot compute in `bf16`; use `f32`");
            }
        }
    }
}
