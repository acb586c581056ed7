//! The one training loop.
//!
//! An epoch is a permutation of the questions drawn from the seed and the epoch's number, so every objective sees the
//! same questions in the same order, and a resumed training needs to remember nothing but its step. The loss of a
//! step is the mean over its questions, however they are split into batches.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    path::PathBuf,
};

use contract::{Context, StageError, records::Metric};
use lm::{
    LanguageModel, LmError,
    llama::Llama,
    lora,
    paths::Paths,
    train::{Checkpoint, Schedule, TrainOptions, Trainer},
};
use rand::seq::SliceRandom;

use crate::{
    Adapt, StudentError, StudentParams,
    forward::{self, Cut, Needs, Row},
    log::StepLog,
    objectives::{Forward, Objective, Pass},
    snapshots,
};

const TRAINER: &str = "student";
const LINES: &str = "metrics.jsonl";

/// Trains a model and returns it with its log, one JSON line an optimizer step. An adapter that it trained is still apart.
pub(crate) fn train(
    params: &StudentParams,
    base: LanguageModel,
    paths: &Paths,
    mut objective: Box<dyn Objective>,
    context: &Context,
) -> Result<(LanguageModel, String), StageError> {
    let LanguageModel { model, config, tokenizer } = base;
    let questions: Vec<usize> =
        (0..paths.questions.len()).filter(|question| objective.learns_from(*question)).collect();
    if questions.is_empty() {
        return Err(StudentError::NothingToLearn.into());
    }
    if questions.len() < paths.questions.len() {
        let left_out = paths.questions.len() - questions.len();
        context.note(format!("{left_out} questions have no rationale this objective can learn from"));
    }
    let steps_per_epoch = questions.len().div_ceil(params.batch_size * params.accumulate);
    let steps = params.steps.unwrap_or(params.epochs * steps_per_epoch);
    if let Some(&step) = params.snapshots.iter().find(|step| **step > steps) {
        return Err(StudentError::NoStep { step, steps }.into());
    }
    objective.starts(steps);
    let options = TrainOptions {
        weight_decay: params.weight_decay,
        max_gradient_norm: params.clip,
        ..TrainOptions::new(params.learning_rate, Schedule::Cosine { steps, warmup: params.warmup })
    };
    let model = match &params.adapt {
        Adapt::Full => model,
        Adapt::Lora(config) => lora::attach(model, config, &mut context.rng("student/lora")),
    };
    let mut trainer = Trainer::new(model, options);
    if let Some(checkpoint) = Checkpoint::load(context.scratch())? {
        checkpoint.restore(TRAINER, &mut trainer)?;
        objective.restore(&checkpoint, checkpoint.extra()?)?;
        context.note(format!("going on from step {}", trainer.steps()));
    }

    let mut lines = Lines::open(context, trainer.steps())?;
    let mut saved = trainer.steps();
    let mut order = (usize::MAX, Vec::new());
    let mut tokens = 0.0;
    let report_every = (steps / 100).max(1);
    while trainer.steps() < steps {
        let step = trainer.steps();
        let interrupted = context.check_cancelled();
        let due = step - saved >= params.checkpoint_every;
        if (due || interrupted.is_err()) && step > saved && objective.at_rest() {
            lines.sync()?;
            save(&trainer, objective.as_ref(), context)?;
            saved = step;
        }
        interrupted?;
        context.progress(step, steps, "steps");

        let (epoch, place) = (step / steps_per_epoch, step % steps_per_epoch);
        if order.0 != epoch {
            order = (epoch, questions.clone());
            order.1.shuffle(&mut context.rng(&format!("student/order/{epoch}")));
        }
        let in_step = order
            .1
            .chunks(params.batch_size * params.accumulate)
            .nth(place)
            .expect("an epoch has as many chunks as steps");
        let mut log = StepLog::default();
        for batch in in_step.chunks(params.batch_size) {
            let passes = objective.plan(batch, step)?;
            let mut values = vec![vec![None; paths.perspectives.len()]; batch.len()];
            let mut note = |rows: &[Row], losses: &[f64]| {
                // What is drawn from these losses, such as weights, would choose no row at all.
                if !losses.iter().all(|loss| loss.is_finite()) {
                    return Err(LmError::Diverged { step: step + 1 });
                }
                for (row, loss) in rows.iter().zip(losses) {
                    values[row.question][row.path] = Some(*loss);
                    log.mean(format!("l_real/{}", paths.perspectives[row.path]), *loss);
                }
                Ok(())
            };
            let observed = rows(paths, batch, &passes, Pass::Observe);
            if !observed.is_empty() {
                let model = params.dtype.of(&trainer.valid());
                let seen = forward::run(&model, &observed, Needs::default(), params.tokens_at_once)?;
                note(&seen.rows, &seen.values)?;
            }
            let learned = rows(paths, batch, &passes, Pass::Learn);
            let model = match params.gradient_checkpointing {
                true => params.dtype.of(&trainer.valid()),
                false => params.dtype.of(&trainer.model),
            };
            let mut seen = forward::run(&model, &learned, objective.needs(step), params.tokens_at_once)?;
            let cut = params.gradient_checkpointing.then(|| Cut::new(&mut seen));
            note(&seen.rows, &seen.values)?;
            log.total("paths", seen.rows.len() as f64);
            let targets = seen.rows.iter().map(|row| row.sequence.continuation().len());
            log.total("tokens", targets.sum::<usize>() as f64);
            let forward = Forward {
                questions_in_step: in_step.len(),
                values,
                rows: seen.rows.iter().map(|row| (row.question, row.path)).collect(),
                losses: seen.losses,
                answers: seen.answers,
                tokens: seen.tokens,
            };
            let loss = objective.loss(&forward, &mut log).div_scalar(in_step.len() as f64);
            match cut {
                Some(cut) => cut.go_on(loss, &mut trainer, params.dtype, &learned, params.tokens_at_once),
                None => trainer.accumulate(loss),
            }
        }
        let taken = trainer.step()?;
        objective.stepped()?;
        log.total("learning_rate", taken.learning_rate);
        log.total("gradient_norm", taken.gradient_norm);
        let metric = log.finish(taken.step);
        tokens += metric.values["tokens"];
        if step.is_multiple_of(report_every) {
            let followed = |name: &str| matches!(name, "loss" | "i_dyn") || name.starts_with("alpha/");
            for (name, value) in metric.values.iter().filter(|(name, _)| followed(name)) {
                context.metric(name, taken.step, *value);
            }
            // Of this attempt, up to here: what somebody who looks on needs to tell how fast it is.
            context.metric("tokens_so_far", taken.step, tokens);
        }
        lines.add(&metric)?;
        if params.snapshots.contains(&taken.step) {
            snapshots::take(taken.step, trainer.valid(), &config, &tokenizer, context)?;
        }
    }
    context.progress(steps, steps, "steps");
    let model = LanguageModel { model: trainer.into_model(), config, tokenizer };
    Ok((model, lines.text))
}

/// The rows a step treats in one way.
fn rows<'a>(paths: &'a Paths, questions: &[usize], passes: &[Vec<Pass>], wanted: Pass) -> Vec<Row<'a>> {
    let mut rows = Vec::new();
    for (place, (question, passes)) in questions.iter().zip(passes).enumerate() {
        for (path, pass) in passes.iter().enumerate() {
            if let (true, Some(sequence)) = (*pass == wanted, &paths.questions[*question].paths[path]) {
                rows.push(Row { question: place, path, sequence });
            }
        }
    }
    rows
}

fn save(trainer: &Trainer<Llama>, objective: &dyn Objective, context: &Context) -> Result<(), StageError> {
    let mut checkpoint = Checkpoint::new(&objective.state());
    checkpoint.add(TRAINER, trainer);
    objective.add_to(&mut checkpoint);
    Ok(checkpoint.save(context.scratch())?)
}

/// The log, kept beside the checkpoint as text: numbers read back could be written with another last digit.
struct Lines {
    text: String,
    path: PathBuf,
    file: File,
}

impl Lines {
    /// Goes on after so many lines; what a killed training wrote after its last checkpoint is cut off.
    fn open(context: &Context, count: usize) -> Result<Self, StageError> {
        let path = context.scratch().join(LINES);
        let failed = || StageError::io(&path);
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(&path).map_err(failed())?;
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(failed())?;
        text = text.split_inclusive('\n').take(count).collect();
        file.set_len(text.len() as u64).map_err(failed())?;
        Ok(Self { text, path, file })
    }

    fn add(&mut self, metric: &Metric) -> Result<(), StageError> {
        let mut line = serde_json::to_string(metric).expect("plain data serializes");
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(StageError::io(&self.path))?;
        self.text.push_str(&line);
        Ok(())
    }

    /// Makes sure no checkpoint is ahead of its log.
    fn sync(&self) -> Result<(), StageError> {
        self.file.sync_data().map_err(StageError::io(&self.path))
    }
}
