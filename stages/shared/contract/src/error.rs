//! Why a cell stopped.

use std::path::{Path, PathBuf};

/// Why a cell stopped before its outputs were complete.
///
/// A kind with richer errors of its own keeps its own enum and wraps it with [`StageError::failed`].
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The run was interrupted; the cell stopped at a point it can resume from.
    #[error("interrupted")]
    Cancelled,
    /// A file could not be read or written.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A line of a data file is not what it should be.
    #[error("`{}` line {line}: {problem}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        problem: String,
    },
    /// The kind's own error, with a remedy where there is one.
    #[error("{source}")]
    Failed {
        /// The kind's error.
        source: Box<dyn std::error::Error + Send + Sync>,
        /// What the user can do about it.
        help: Option<String>,
    },
}

impl StageError {
    /// Wraps a kind's own error.
    pub fn failed(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::Failed { source: source.into(), help: None }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn with_help(self, remedy: impl Into<String>) -> Self {
        match self {
            Self::Failed { source, .. } => Self::Failed { source, help: Some(remedy.into()) },
            Self::Cancelled => Self::Cancelled,
            Self::Io { .. } | Self::Record { .. } => {
                Self::Failed { source: Box::new(self), help: Some(remedy.into()) }
            }
        }
    }

    /// Attaches the path to an I/O error: `fs::read(p).map_err(StageError::io(p))`.
    pub fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self + '_ {
        move |source| Self::Io { path: path.to_owned(), source }
    }

    /// The remedy, if the kind named one.
    pub fn help(&self) -> Option<&str> {
        match self {
            Self::Failed { help, .. } => help.as_deref(),
            Self::Cancelled | Self::Io { .. } | Self::Record { .. } => None,
        }
    }
}
