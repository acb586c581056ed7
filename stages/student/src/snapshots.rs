//! The student as it was after certain steps.
//!
//! A snapshot waits beside the checkpoint until the training ends, so that one that was killed and goes on has those it took
//! before. No checkpoint is ahead of a snapshot: each is on the disk before training goes on.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use contract::{Context, StageError};
use lm::{
    LanguageModel,
    llama::{Llama, LlamaConfig},
    tokenizer::Tokenizer,
};

/// The output port, and the folder beside the checkpoint.
pub(crate) const SNAPSHOTS: &str = "snapshots";

fn place(context: &Context, step: usize) -> PathBuf {
    context.scratch().join(SNAPSHOTS).join(step.to_string())
}

/// Keeps the model as it is after a step; one of that step that is there was left half written by a kill, or is the same.
pub(crate) fn take(
    step: usize,
    model: Llama,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
    context: &Context,
) -> Result<(), StageError> {
    let folder = place(context, step);
    if folder.exists() {
        fs::remove_dir_all(&folder).map_err(StageError::io(&folder))?;
    }
    fs::create_dir_all(&folder).map_err(StageError::io(&folder))?;
    LanguageModel { model, config: config.clone(), tokenizer: tokenizer.clone() }.save(&folder)?;
    sync(&folder)
}

fn sync(folder: &Path) -> Result<(), StageError> {
    for entry in fs::read_dir(folder).map_err(StageError::io(folder))? {
        let path = entry.map_err(StageError::io(folder))?.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(StageError::io(&path))?;
    }
    Ok(())
}

/// Puts all of them on the output port. Step 0 is the model that training began with, as it came.
pub(crate) fn hand_over(steps: &[usize], context: &Context) -> Result<(), StageError> {
    for &step in steps {
        let folder = if step == 0 { context.input("model").path.clone() } else { place(context, step) };
        context.take_over(&folder, SNAPSHOTS, &step.to_string())?;
    }
    Ok(())
}
