//! The number format a model is trained in, where it is another than that of its weights.
//!
//! Weights, the gradients that reach them and the optimizer's state are 32-bit floats always. A pass in another format reads
//! rounded copies of the weights, and its gradients flow back through the rounding; sums over a row (norms, softmax,
//! cross-entropy) keep at least 32 bits, see [`crate::fused`].

use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Tensor},
};
use contract::Backend;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::device::{DeviceError, is_flex};

/// The number format of forward and backward passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// 32-bit floats, everywhere.
    #[default]
    F32,
    /// bfloat16, where the backend computes in it.
    Bf16,
}

impl Precision {
    /// Whether it is that of the weights.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Refuses a format that a backend computes in on no device; see also [`Precision::check`].
    pub fn check_backend(self, backend: &Backend) -> Result<(), DeviceError> {
        match self {
            Self::Bf16 if backend.name == Backend::default().name => {
                Err(DeviceError::Dtype { name: backend.name.clone(), dtype: "bf16".to_owned() })
            }
            Self::F32 | Self::Bf16 => Ok(()),
        }
    }

    /// Refuses a format that a device does not compute in. flex has no kernels for bfloat16: it would widen each number.
    pub fn check(self, backend: &Backend, device: &Device) -> Result<(), DeviceError> {
        match self {
            Self::F32 => Ok(()),
            Self::Bf16 if !is_flex(device.clone()) && device.supports_dtype(DType::BF16) => Ok(()),
            Self::Bf16 => Err(DeviceError::Dtype { name: backend.name.clone(), dtype: "bf16".to_owned() }),
        }
    }

    /// The module to compute losses with: gradients reach the weights of the one given.
    pub fn of<M: Module>(self, module: &M) -> M {
        match self {
            Self::F32 => module.clone(),
            Self::Bf16 => cast(module, DType::BF16),
        }
    }
}

/// A module that reads the weights of another one in a number format.
pub(crate) fn cast<M: Module>(module: &M, dtype: DType) -> M {
    module.clone().map(&mut Cast(dtype))
}

struct Cast(DType);

impl ModuleMapper for Cast {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        param.map(|weight| weight.cast(self.0))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use super::*;
    use crate::{
        batch::collate,
        fixture,
        llama::Llama,
        train::{Schedule, TrainOptions, Trainer},
    };

    /// Trains the small model in bfloat16; its state is wider, and its loss falls.
    pub(crate) fn overfits_in_bf16(device: &Device) {
        let sequences = fixture::sequences(4);
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), device);
        let model = Llama::init(&fixture::config(), 1, device);
        let mut trainer = Trainer::new(model, TrainOptions::new(1e-2, Schedule::Constant));
        let (mut before, mut after) = (None, 0.0);
        for _ in 0..60 {
            let model = Precision::Bf16.of(&trainer.model);
            let hidden = batch.hidden(&model);
            assert_eq!(hidden.dtype(), DType::BF16);
            let losses = batch.token_losses(&model, hidden);
            assert_eq!(losses.dtype(), DType::F32);
            let loss = losses.mean();
            after = loss.clone().into_scalar::<f32>();
            before.get_or_insert(after);
            trainer.step_on(loss).unwrap();
        }
        let before = before.unwrap();
        assert!(before > 5.0 && after < 0.3, "{before} -> {after}");
        // Table, last norm, and nine weights a block.
        assert_eq!(trainer.moments.len(), 20);
        for (path, (first, second)) in &trainer.moments {
            assert_eq!((first.dtype(), second.dtype()), (DType::F32, DType::F32), "{path}");
        }
        trainer.into_model().visit(&mut Wide);
    }

    struct Wide;

    impl burn::module::ModuleVisitor for Wide {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            assert_eq!(param.val().dtype(), DType::F32);
        }
    }

    #[test]
    fn half_of_the_bits_are_enough_to_learn_with_and_not_to_remember() {
        overfits_in_bf16(&fixture::device());
    }

    #[test]
    fn flex_refuses_bf16_with_a_remedy() {
        let (backend, device) = (Backend::default(), fixture::device());
        assert_eq!(Precision::F32.check(&backend, &device), Ok(()));
        assert_eq!(Precision::F32.check_backend(&backend), Ok(()));
        assert!(Precision::Bf16.check_backend(&backend).is_err());
        let error = Precision::Bf16.check(&backend, &device).unwrap_err();
        assert_eq!(error.to_string(), "backend `flex` cannot compute in `bf16`; use `f32`");
        assert_eq!(error.help(), "`dtype: f32` runs everywhere, `bf16` with `--backend tch`");
    }

    #[test]
    fn a_weight_learns_through_its_rounded_copy() {
        let device = fixture::device();
        // 1 + 2^-9 is 1 in bfloat16; 0.75 is exact.
        let weight = Param::from_data([[1.0f32 + 1.0 / 512.0], [0.75]], &device);
        let linear = burn::nn::Linear { weight, bias: None }.train();
        let x = Tensor::<2>::from_data([[2.0f32, 4.0]], (&device, DType::BF16));
        let y = Precision::Bf16.of(&linear).forward(x).cast(DType::F32).sum();
        assert_eq!(y.clone().into_scalar::<f32>(), 5.0);
        let gradient = linear.weight.val().grad(&y.backward()).unwrap();
        assert_eq!(gradient.dtype(), DType::F32);
        assert_eq!(gradient.into_data().iter::<f32>().collect::<Vec<_>>(), [2.0, 4.0]);
    }
}
