//! Backends: which ones this build holds, which of them this machine can use, and how to open one.
//!
//! This is the only file of the project that names a backend. It never asks burn for a default device, because
//! that depends on which features were built.

pub use burn::tensor::Device;
use contract::Backend;

/// Every backend retort knows, built in or not.
pub const BACKENDS: [&str; 4] = ["flex", "wgpu", "tch", "cuda"];

/// Number formats that a recipe may name. Checkpoints may hold others, and a student may be trained in another: see
/// [`crate::precision`].
pub const DTYPES: [&str; 1] = ["f32"];

/// Why a backend cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeviceError {
    /// No backend has this name.
    #[error("unknown backend `{name}`; there are `flex`, `wgpu`, `tch` and `cuda`")]
    Unknown {
        /// The name asked for.
        name: String,
    },
    /// This build was made without it.
    #[error("backend `{name}` is not in this build")]
    NotBuilt {
        /// The backend.
        name: String,
    },
    /// It is in the build, but the machine lacks what it needs.
    #[error("backend `{name}` cannot run on this machine: {why}")]
    NotHere {
        /// The backend.
        name: String,
        /// What is missing.
        why: String,
    },
    /// The backend cannot compute in this number format.
    #[error("backend `{name}` cannot compute in `{dtype}`; use `f32`")]
    Dtype {
        /// The backend.
        name: String,
        /// The format asked for.
        dtype: String,
    },
    /// Its self-test came out otherwise than on the default backend.
    #[error("backend `{name}` computes wrongly: {what}")]
    Wrong {
        /// The backend.
        name: String,
        /// What differs.
        what: String,
    },
}

impl DeviceError {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        match self {
            Self::Unknown { .. } => "`retort backends` lists what this build and machine can use".into(),
            Self::NotBuilt { name } => format!("rebuild with `--features {name}`, or use `--backend flex`"),
            Self::NotHere { .. } | Self::Wrong { .. } => "`--backend flex` runs everywhere".into(),
            Self::Dtype { .. } => "`dtype: f32` runs everywhere, `bf16` with `--backend tch`".into(),
        }
    }
}

impl From<DeviceError> for contract::StageError {
    fn from(error: DeviceError) -> Self {
        let help = error.help();
        Self::failed(error).with_help(help)
    }
}

/// What is known about one backend.
#[derive(Clone, Debug)]
pub struct BackendInfo {
    /// Its name in recipes.
    pub name: &'static str,
    /// Whether this build holds it.
    pub compiled: bool,
    /// Whether this machine can use it, or why not.
    pub available: Result<(), DeviceError>,
}

/// Opens the device a cell computes on, without autodiff: training turns that on per module.
pub fn open(backend: &Backend) -> Result<Device, DeviceError> {
    let device = device(&backend.name)?;
    if !DTYPES.contains(&backend.dtype.as_str()) {
        return Err(DeviceError::Dtype { name: backend.name.clone(), dtype: backend.dtype.clone() });
    }
    Ok(device)
}

/// Whether a device is flex, under autodiff or not.
pub(crate) fn is_flex(device: Device) -> bool {
    device.without_autodiff() == Device::flex()
}

/// Every backend, with what stands in its way.
pub fn list() -> Vec<BackendInfo> {
    let info = |name| {
        let available = device(name).map(drop);
        BackendInfo { name, compiled: !matches!(available, Err(DeviceError::NotBuilt { .. })), available }
    };
    BACKENDS.into_iter().map(info).collect()
}

fn device(name: &str) -> Result<Device, DeviceError> {
    match name {
        "flex" => Ok(Device::flex()),
        "wgpu" => accelerator::wgpu(),
        "tch" => accelerator::tch(),
        "cuda" => accelerator::cuda(),
        other => Err(DeviceError::Unknown { name: other.to_owned() }),
    }
}

mod accelerator {
    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "tch"))]
    use burn::tensor::DeviceType;

    use super::{Device, DeviceError};

    #[cfg(feature = "wgpu")]
    pub(super) fn wgpu() -> Result<Device, DeviceError> {
        first("wgpu", DeviceType::Wgpu)
    }

    #[cfg(feature = "cuda")]
    pub(super) fn cuda() -> Result<Device, DeviceError> {
        first("cuda", DeviceType::Cuda)
    }

    /// GPUs where LibTorch sees any, else the processor.
    #[cfg(feature = "tch")]
    #[expect(
        deprecated,
        reason = "burn will drop LibTorch one day; until then it is the fastest way to train on a GPU"
    )]
    pub(super) fn tch() -> Result<Device, DeviceError> {
        first("tch", DeviceType::LibTorch).or_else(|_| Ok(Device::libtorch()))
    }

    /// The first device that this process sees: a run shares devices out by what it shows to each process.
    ///
    /// Drivers report their absence by panicking; that is an answer, not a bug.
    #[cfg(any(feature = "wgpu", feature = "cuda", feature = "tch"))]
    fn first(name: &str, kind: DeviceType) -> Result<Device, DeviceError> {
        let not_here = |why: String| DeviceError::NotHere { name: name.to_owned(), why };
        let devices = std::panic::catch_unwind(|| Device::enumerate(kind).into_vec())
            .map_err(|_| not_here("its driver or library did not start".into()))?;
        devices.into_iter().next().ok_or_else(|| not_here("it sees no device".into()))
    }

    #[cfg(not(feature = "wgpu"))]
    pub(super) fn wgpu() -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt { name: "wgpu".into() })
    }

    #[cfg(not(feature = "cuda"))]
    pub(super) fn cuda() -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt { name: "cuda".into() })
    }

    #[cfg(not(feature = "tch"))]
    pub(super) fn tch() -> Result<Device, DeviceError> {
        Err(DeviceError::NotBuilt { name: "tch".into() })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn flex_is_always_there() {
        assert!(open(&Backend::default()).is_ok());
    }

    #[test]
    fn every_refusal_says_what_to_do() {
        let unknown = open(&Backend { name: "gpu".into(), ..Backend::default() }).unwrap_err();
        assert_eq!(unknown, DeviceError::Unknown { name: "gpu".into() });
        let dtype = open(&Backend { dtype: "bf16".into(), ..Backend::default() }).unwrap_err();
        assert_eq!(dtype.to_string(), "backend `flex` cannot compute in `bf16`; use `f32`");
    }

    #[cfg(not(feature = "cuda"))]
    #[test]
    fn a_backend_left_out_of_the_build_is_told_apart() {
        let error = open(&Backend { name: "cuda".into(), ..Backend::default() }).unwrap_err();
        assert_eq!(error, DeviceError::NotBuilt { name: "cuda".into() });
        assert!(error.help().contains("--features cuda"));
        let info = list().into_iter().find(|info| info.name == "cuda").unwrap();
        assert!(!info.compiled && info.available.is_err());
    }
}
