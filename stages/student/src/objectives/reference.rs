//! Losses and gradients against PyTorch's autograd: `fixtures/reference.py`.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use burn::tensor::{Int, TensorData, activation};
use lm::{
    assistant::{MetaKl, meta_loss},
    batch::Sequence,
    paths::QuestionPaths,
};
use serde_json::{Value, json};

use super::*;

/// Single precision, relative to the largest value compared.
const TOLERANCE: f64 = 1e-5;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
    meta: Vec<Meta>,
}

#[derive(Deserialize)]
struct Case {
    objective: String,
    params: Value,
    loss: f64,
    questions: Vec<Vec<Option<Path>>>,
}

#[derive(Deserialize)]
struct Path {
    logits: Vec<Vec<f64>>,
    targets: Vec<u32>,
    answer: [usize; 2],
    gradient: Vec<Vec<f64>>,
}

#[derive(Deserialize)]
struct Meta {
    direction: MetaKl,
    tau: f64,
    present: Vec<Vec<f32>>,
    scores: Vec<Vec<f32>>,
    losses: Vec<Vec<f32>>,
    loss: f64,
    gradient: Vec<Vec<f64>>,
}

fn reference() -> Reference {
    serde_json::from_str(include_str!("../../fixtures/objectives.json")).unwrap()
}

fn device() -> Device {
    lm::device::open(&contract::Backend::default()).unwrap()
}

fn close(what: &str, found: &[f64], expected: &[f64]) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= TOLERANCE * largest, "{what}: {found}, PyTorch has {expected}");
    }
}

impl Case {
    fn paths(&self) -> Paths {
        let sequence = |path: &Path| {
            let tokens = std::iter::once(0).chain(path.targets.iter().copied()).collect();
            Sequence { tokens, target_start: 1, answer_span: path.answer[0] + 1..path.answer[1] + 1 }
        };
        let question = |(at, paths): (usize, &Vec<Option<Path>>)| QuestionPaths {
            id: at.to_string(),
            paths: paths.iter().map(|path| path.as_ref().map(sequence)).collect(),
        };
        let perspectives = (0..self.questions[0].len()).map(|path| path.to_string()).collect();
        Paths {
            perspectives,
            questions: self.questions.iter().enumerate().map(question).collect(),
            too_long: 0,
        }
    }

    /// The forward pass over the paths learned from, whose logits are the leaves; returns them by row.
    fn forward(&self, passes: &[Vec<Pass>]) -> (Forward, Vec<Tensor<2>>) {
        let device = device();
        let (mut rows, mut leaves) = (Vec::new(), Vec::new());
        let (mut losses, mut tokens, mut answers) = (Vec::new(), Vec::new(), Vec::new());
        let (mut token_spans, mut answer_spans) = (Vec::new(), Vec::new());
        let (mut token_end, mut answer_end) = (0, 0);
        let mut values = vec![vec![None; self.questions[0].len()]; self.questions.len()];
        for (question, passes) in passes.iter().enumerate() {
            for (path, pass) in passes.iter().enumerate() {
                let Some(of_path) = self.questions[question][path].as_ref().filter(|_| *pass == Pass::Learn)
                else {
                    continue;
                };
                let (length, width) = (of_path.targets.len(), of_path.logits[0].len());
                let flat: Vec<f32> = of_path.logits.iter().flatten().map(|logit| *logit as f32).collect();
                let leaf = Tensor::<2>::from_data(TensorData::new(flat, [length, width]), &device)
                    .autodiff()
                    .require_grad();
                let log_probs = activation::log_softmax(leaf.clone(), 1);
                let targets: Vec<i32> = of_path.targets.iter().map(|token| *token as i32).collect();
                let targets = Tensor::<1, Int>::from_data(targets.as_slice(), &device).reshape([length, 1]);
                let each = log_probs.clone().gather(1, targets).neg().reshape([length]);
                values[question][path] = Some(f64::from(each.clone().mean().into_scalar::<f32>()));
                losses.push(each.clone().mean());
                tokens.push(each);
                token_spans.push(token_end..token_end + length);
                token_end += length;
                let [start, end] = of_path.answer;
                answers.push(log_probs.narrow(0, start, end - start));
                answer_spans.push(answer_end..answer_end + end - start);
                answer_end += end - start;
                rows.push((question, path));
                leaves.push(leaf);
            }
        }
        let forward = Forward {
            questions_in_step: self.questions.len(),
            values,
            rows,
            losses: Tensor::cat(losses, 0),
            answers: Some(Answers { log_probs: Tensor::cat(answers, 0), spans: answer_spans }),
            tokens: Some(Tokens { losses: Tensor::cat(tokens, 0), spans: token_spans }),
        };
        (forward, leaves)
    }

    /// Plan and loss as the crate has them.
    fn run(&self) -> (Forward, Vec<Tensor<2>>, Tensor<1>) {
        let paths = self.paths();
        let all: Vec<usize> = (0..paths.questions.len()).collect();
        let params = |name: &str| -> Value {
            let mut params = json!({ name: self.params });
            params[name].as_object_mut().unwrap().remove("paths");
            params
        };
        let mut log = StepLog::default();
        let mut objective: Box<dyn Objective> = match serde_json::from_value(params(&self.objective))
            .unwrap_or(ObjectiveParams::Undistilled)
        {
            ObjectiveParams::StdCot(params) => Box::new(std_cot::StdCot::new(&params, &paths).unwrap()),
            ObjectiveParams::Uniform(params) => Box::new(uniform::Uniform::new(&params, &paths)),
            ObjectiveParams::SbsMultitask(params) => {
                Box::new(sbs_multitask::SbsMultitask::new(&params, &paths))
            }
            ObjectiveParams::MccKd(params) => Box::new(mcc_kd::MccKd::new(&params, &paths, 1)),
            ObjectiveParams::Edit(params) => Box::new(edit::Edit::new(&params, &paths).unwrap()),
            ObjectiveParams::LossOnly(params) => Box::new(loss_only::LossOnly::new(&params, &paths)),
            // Its scores are given here, and are no param.
            ObjectiveParams::Mind(_) | ObjectiveParams::Undistilled => {
                let number = |name: &str| self.params[name].as_f64().unwrap();
                let scores: Vec<Vec<f64>> = serde_json::from_value(self.params["scores"].clone()).unwrap();
                let weights: Vec<Vec<f64>> = scores
                    .iter()
                    .zip(presence(&paths))
                    .map(|(scores, present)| {
                        mind::alphas(scores, &present, number("beta"), number("tau_student"))
                    })
                    .collect();
                let (forward, leaves) = self.forward(&passes(&weights));
                let loss = weighted_loss(&forward, &weights, number("lambda"), &mut log);
                return (forward, leaves, loss);
            }
        };
        let passes = objective.plan(&all, 0).unwrap();
        let (forward, leaves) = self.forward(&passes);
        let loss = objective.loss(&forward, &mut log);
        (forward, leaves, loss)
    }
}

#[test]
fn losses_and_gradients_are_those_of_pytorch() {
    let cases = reference().cases;
    assert_eq!(cases.len(), 15);
    for (at, case) in cases.iter().enumerate() {
        let name = format!("case {at}, {}", case.objective);
        let (forward, leaves, loss) = case.run();
        close(&name, &[f64::from(loss.clone().into_scalar::<f32>())], &[case.loss]);
        let gradients = loss.backward();
        let (mut found, mut expected) = (Vec::new(), Vec::new());
        for (question, paths) in case.questions.iter().enumerate() {
            for (path, of_path) in paths.iter().enumerate() {
                let Some(of_path) = of_path else { continue };
                let wanted = of_path.gradient.iter().flatten().copied();
                match forward.rows.iter().position(|row| *row == (question, path)) {
                    Some(row) => {
                        let gradient = leaves[row].grad(&gradients).unwrap();
                        found.extend(gradient.to_data().iter::<f64>());
                        expected.extend(wanted);
                    }
                    None => assert!(
                        wanted.into_iter().all(|g| g == 0.0),
                        "{name}: a path left out has a gradient"
                    ),
                }
            }
        }
        assert!(expected.iter().any(|gradient| gradient.abs() > 1e-3));
        close(&format!("{name}, gradient"), &found, &expected);
    }
}

#[test]
fn the_meta_loss_and_its_gradient_are_those_of_pytorch() {
    for case in reference().meta {
        let shape = [case.present.len(), case.present[0].len()];
        let tensor =
            |rows: &[Vec<f32>]| Tensor::<2>::from_data(TensorData::new(rows.concat(), shape), &device());
        let scores = tensor(&case.scores).autodiff().require_grad();
        let loss =
            meta_loss(scores.clone(), tensor(&case.losses), tensor(&case.present), case.tau, case.direction);
        close("meta loss", &[f64::from(loss.clone().into_scalar::<f32>())], &[case.loss]);
        let gradient: Vec<f64> = scores.grad(&loss.backward()).unwrap().to_data().iter::<f64>().collect();
        close("gradient of the meta loss", &gradient, &case.gradient.concat());
    }
}
