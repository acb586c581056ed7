//! Pretraining of a fresh model: what it reads, and the loop, which resumes exactly after a kill.

use std::collections::BTreeMap;

use burn::tensor::Tensor;
use contract::{
    Context, Digest, StageError,
    records::{Metric, Question, QuestionRationales},
};
use lm::{
    LmError,
    batch::{self, Sequence},
    llama::Llama,
    prompt::Prompter,
    tokenizer::Tokenizer,
    train::{Checkpoint, Schedule, TrainOptions, Trainer},
};

use rand::seq::SliceRandom;
use tasks::Task;

use crate::Pretrain;

/// Facts in one sequence; a fact alone is shorter than everything else in a batch.
const FACTS_TOGETHER: usize = 8;

/// Between two checkpoints. A small model on a CPU sees as many in some ten seconds.
const TOKENS_PER_CHECKPOINT: usize = 100_000;

/// The fraction of the steps over which the learning rate rises.
const WARMUP: f64 = 0.03;

/// What a question is answered with: the bare answer, or the steps of its solution first.
///
/// `worked` holds the share of a task's questions answered with steps, 0 to 1; which ones is decided by their ids.
fn answer(question: &Question, worked: &BTreeMap<Task, f64>) -> String {
    let share = question.task.parse().ok().and_then(|task: Task| worked.get(&task)).copied().unwrap_or(0.0);
    let suffix = tasks::answer_suffix(question);
    let place = Digest::of_bytes(question.id.as_bytes());
    let place = u32::from_str_radix(&place.as_str()[..8], 16).expect("a digest is hexadecimal");
    let solution =
        if f64::from(place) < share * 2f64.powi(32) { tasks::builtin::solve(question) } else { None };
    match solution {
        Some(solution) => {
            let steps: Vec<String> = solution.steps.iter().map(ToString::to_string).collect();
            format!("{}.\n{suffix}", steps.join(". "))
        }
        None => suffix,
    }
}

/// The pretraining texts: answered questions, facts, and rationales as plain text.
pub(crate) fn sequences(
    tokenizer: &Tokenizer,
    corpus: &[Question],
    worked: &BTreeMap<Task, f64>,
    primer: &[String],
    rationales: &[QuestionRationales],
) -> Result<Vec<Sequence>, LmError> {
    let prompter = Prompter::new(tokenizer)?;
    let answers = corpus.iter().map(|question| {
        let (prompt, text) = (prompter.question(question)?, answer(question, worked));
        batch::encode_example(tokenizer, &prompt, &text, &tasks::answer_suffix(question))
    });
    let facts = primer.chunks(FACTS_TOGETHER).map(|facts| batch::encode_text(tokenizer, &facts.join("\n")));
    let told = rationales.iter().flat_map(|question| &question.rationales);
    let told = told.map(|rationale| batch::encode_text(tokenizer, &rationale.text));
    answers.chain(facts).chain(told).collect()
}

/// Trains a model on sequences and returns it with a metric per step.
pub(crate) fn train(
    model: Llama,
    sequences: &[Sequence],
    params: &Pretrain,
    context: &Context,
) -> Result<(Llama, Vec<Metric>), StageError> {
    let device = model.device();
    let schedule = Schedule::Cosine { steps: params.steps, warmup: WARMUP };
    let mut trainer = Trainer::new(model, TrainOptions::new(params.learning_rate, schedule));
    let mut metrics: Vec<Metric> = Vec::new();
    if let Some(checkpoint) = Checkpoint::load(context.scratch())? {
        checkpoint.restore("model", &mut trainer)?;
        metrics = checkpoint.extra()?;
        context.note(format!("resumed after step {}", trainer.steps()));
    }

    let steps_per_pass = sequences.len().div_ceil(params.batch_size);
    let mut tokens = 0;
    let mut pass = None;
    let save = |trainer: &Trainer<Llama>, metrics: &[Metric]| {
        let mut checkpoint = Checkpoint::new(&metrics);
        checkpoint.add("model", trainer);
        checkpoint.save(context.scratch())
    };
    while trainer.steps() < params.steps {
        if let Err(interrupted) = context.check_cancelled() {
            save(&trainer, &metrics)?;
            return Err(interrupted);
        }
        let step = trainer.steps();
        let current = step / steps_per_pass;
        let order = match pass.take() {
            Some((number, order)) if number == current => order,
            // Each pass has its own generator, so a resumed run needs none of the passes before. Batches are not sorted by
            // length, which would save padding: length tells kinds of texts apart, and a batch of one kind teaches it at the others' cost.
            _ => {
                let mut order: Vec<&Sequence> = sequences.iter().collect();
                order.shuffle(&mut context.rng(&format!("pass {current}")));
                order
            }
        };
        let start = step % steps_per_pass * params.batch_size;
        let chosen = order[start..order.len().min(start + params.batch_size)].to_vec();
        pass = Some((current, order));

        let batch = batch::collate(&chosen, &device);
        let loss: Tensor<1> = batch.token_losses(&trainer.model, batch.hidden(&trainer.model)).mean();
        let value = f64::from(loss.clone().detach().into_scalar::<f32>());
        let report = trainer.step_on(loss)?;
        let values = BTreeMap::from([
            ("gradient_norm".to_owned(), report.gradient_norm),
            ("learning_rate".to_owned(), report.learning_rate),
            ("loss".to_owned(), value),
        ]);
        metrics.push(Metric { step: report.step, values });
        context.metric("loss", report.step, value);
        context.progress(report.step, params.steps, "steps");

        tokens += chosen.iter().map(|sequence| sequence.tokens.len()).sum::<usize>();
        if tokens >= TOKENS_PER_CHECKPOINT && report.step < params.steps {
            tokens = 0;
            save(&trainer, &metrics)?;
        }
    }
    Ok((trainer.into_model(), metrics))
}
