//! Training the assistant alone, against the losses of the base student; a killed training goes on exactly.

use std::collections::BTreeMap;

use burn::tensor::Device;
use contract::{Context, StageError, records::Metric};
use lm::{
    assistant::{Assistant, AssistantConfig, AssistantNetwork, Features, meta_loss, scores},
    train::{Checkpoint, Schedule, TrainOptions, Trainer},
};
use rand::seq::SliceRandom;

use crate::AssistantParams;

const TRAINER: &str = "assistant";

/// Draws an assistant and trains it; returns it with its log.
pub(crate) fn warm_up(
    params: &AssistantParams,
    perspectives: Vec<String>,
    features: Features,
    device: &Device,
    context: &Context,
) -> Result<(Assistant, Vec<Metric>), StageError> {
    let config = AssistantConfig {
        perspectives,
        feature_size: features.size,
        hidden_size: params.hidden_size,
        num_attention_heads: params.heads,
        head_hidden_size: params.head_hidden_size,
        attention: params.attention,
    };
    let network = AssistantNetwork::new(&config, &mut context.rng("assistant/weights"), device);
    let mut trainer = Trainer::new(network, TrainOptions::new(params.learning_rate, Schedule::Constant));
    let questions: Vec<usize> = (0..features.questions.len()).collect();
    let steps_per_epoch = questions.len().div_ceil(params.batch_size);
    let steps = params.warmup_epochs * steps_per_epoch;
    let mut metrics: Vec<Metric> = Vec::new();
    if let Some(checkpoint) = Checkpoint::load(context.scratch())? {
        checkpoint.restore(TRAINER, &mut trainer)?;
        metrics = checkpoint.extra()?;
        context.note(format!("going on from step {}", trainer.steps()));
    }
    let mut saved = trainer.steps();
    let mut order = (usize::MAX, Vec::new());
    while trainer.steps() < steps {
        let step = trainer.steps();
        let interrupted = context.check_cancelled();
        if step > saved && (step - saved >= params.checkpoint_every || interrupted.is_err()) {
            let mut checkpoint = Checkpoint::new(&metrics);
            checkpoint.add(TRAINER, &trainer);
            checkpoint.save(context.scratch())?;
            saved = step;
        }
        interrupted?;
        context.progress(step, steps, "steps");

        // An epoch's order is drawn from the seed and its number, so a resumed warm-up needs none of those before.
        let (epoch, place) = (step / steps_per_epoch, step % steps_per_epoch);
        if order.0 != epoch {
            order = (epoch, questions.clone());
            order.1.shuffle(&mut context.rng(&format!("assistant/order/{epoch}")));
        }
        let rows =
            order.1.chunks(params.batch_size).nth(place).expect("an epoch has as many chunks as steps");
        let (values, mask) = features.rows(rows, device);
        let losses = features.losses(rows, device);
        let scores = scores(trainer.model.forward(values, mask.clone()));
        let loss =
            meta_loss(scores.clone(), losses, mask, params.tau, params.meta_kl).div_scalar(rows.len() as f64);
        let l_meta = loss.to_data().iter::<f64>().sum();
        let step = trainer.step_on(loss)?.step;
        context.metric("l_meta", step, l_meta);
        let scores: Vec<f64> = scores.to_data().iter::<f64>().collect();
        metrics.push(Metric { step, values: log(&config, &features, rows, &scores, l_meta) });
    }
    context.progress(steps, steps, "steps");
    Ok((Assistant { config, network: trainer.into_model(), features }, metrics))
}

/// The meta loss, and each perspective's mean score and base loss over the questions that have it.
fn log(
    config: &AssistantConfig,
    features: &Features,
    rows: &[usize],
    scores: &[f64],
    l_meta: f64,
) -> BTreeMap<String, f64> {
    let mut values = BTreeMap::from([("l_meta".to_owned(), l_meta)]);
    for (path, perspective) in config.perspectives.iter().enumerate() {
        let present: Vec<(usize, usize)> = rows
            .iter()
            .enumerate()
            .map(|(slot, row)| (slot * features.paths + path, row * features.paths + path))
            .filter(|(_, at)| features.mask[*at] > 0.0)
            .collect();
        if present.is_empty() {
            continue;
        }
        let count = present.len() as f64;
        let score = present.iter().map(|(at, _)| scores[*at]).sum::<f64>() / count;
        let loss = present.iter().map(|(_, at)| f64::from(features.losses[*at])).sum::<f64>() / count;
        values.insert(format!("s/{perspective}"), score);
        values.insert(format!("l_real/{perspective}"), loss);
    }
    values
}
