//! Vectors of texts: the hidden states of a model, one vector a text and layer.

use burn::tensor::{Tensor, TensorData};
use contract::{StageError, records::QuestionRationales};
use faer::Mat;
use lm::{
    LanguageModel,
    batch::{Sequence, rectangle},
    paths::Paths,
    prompt::Prompter,
};

use crate::stage::Pooling;

/// Which text a vector stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    /// The question's id.
    pub(crate) question: String,
    /// An index into the perspectives.
    pub(crate) perspective: usize,
}

/// The texts a model can read, in the order of the records, and how many are too long for it.
pub(crate) fn texts(
    model: &LanguageModel,
    perspectives: &[String],
    records: &[QuestionRationales],
) -> Result<(Vec<Text>, Vec<Sequence>, usize), StageError> {
    let paths = Paths::encode(
        &model.tokenizer,
        perspectives.to_vec(),
        records,
        model.config.max_position_embeddings,
    )?;
    let (mut texts, mut sequences) = (Vec::new(), Vec::new());
    for question in paths.questions {
        for (perspective, sequence) in question.paths.into_iter().enumerate() {
            if let Some(sequence) = sequence {
                texts.push(Text { question: question.id.clone(), perspective });
                sequences.push(sequence);
            }
        }
    }
    Ok((texts, sequences, paths.too_long))
}

/// Completions a model can read, one entry a text.
#[derive(Default)]
pub(crate) struct Marked {
    /// The texts behind their prompts.
    pub(crate) sequences: Vec<Sequence>,
    /// 1 where the answer is right, else 0.
    pub(crate) right: Vec<usize>,
    /// The question's id.
    pub(crate) questions: Vec<String>,
}

/// Encodes completions and marks their answers. Unlike rationales they end as they end: only the end-of-text token, which no
/// pooling counts, is added.
pub(crate) fn marked(model: &LanguageModel, records: &[QuestionRationales]) -> Result<Marked, StageError> {
    let prompter = Prompter::new(&model.tokenizer)?;
    let mut marked = Marked::default();
    for QuestionRationales { question, rationales } in records {
        let prompt = prompter.question(question)?;
        for rationale in rationales {
            let told = model.tokenizer.encode(&rationale.text)?;
            if told.is_empty() || prompt.len() + told.len() >= model.config.max_position_embeddings {
                continue;
            }
            let tokens = [prompt.clone(), told, vec![model.tokenizer.eos()]].concat();
            marked.sequences.push(Sequence { tokens, target_start: prompt.len(), answer_span: 0..0 });
            marked.right.push(usize::from(tasks::score(question, &rationale.text).correct));
            marked.questions.push(question.id.clone());
        }
    }
    Ok(marked)
}

/// The pooled states of every layer: embeddings first, one text a row in the order given.
///
/// `done` hears how many texts each batch held, and may stop the work.
pub(crate) fn vectors(
    model: &LanguageModel,
    sequences: &[Sequence],
    pooling: Pooling,
    batch_size: usize,
    mut done: impl FnMut(usize) -> Result<(), StageError>,
) -> Result<Vec<Mat<f64>>, StageError> {
    let device = model.model.device();
    let width = model.config.hidden_size;
    let mut layers = vec![Mat::<f64>::zeros(sequences.len(), width); model.config.num_hidden_layers + 1];
    // Texts of like length share a batch: little padding.
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|index| sequences[*index].tokens.len());
    for indices in order.chunks(batch_size) {
        let chunk: Vec<&Sequence> = indices.iter().map(|index| &sequences[*index]).collect();
        let batch = rectangle(&chunk, model.tokenizer.pad(), &device);
        let [count, length] = batch.tokens.dims();
        let weights: Vec<f32> =
            chunk.iter().flat_map(|sequence| weights(sequence, pooling, length)).collect();
        // [batch, 1, length]
        let weights = Tensor::<3>::from_data(TensorData::new(weights, [count, 1, length]), &device);
        let states = model.model.hidden_states(batch.tokens, batch.positions, batch.mask);
        for (layer, states) in layers.iter_mut().zip(states) {
            // [batch, 1, width]
            let pooled = weights.clone().matmul(states).into_data();
            for (position, value) in pooled.iter::<f64>().enumerate() {
                layer[(indices[position / width], position % width)] = value;
            }
        }
        done(indices.len())?;
    }
    Ok(layers)
}

/// How much each token of a sequence counts; prompt, padding and the end-of-text token count nothing.
fn weights(sequence: &Sequence, pooling: Pooling, length: usize) -> Vec<f32> {
    let end = sequence.tokens.len() - 1;
    let counted = match pooling {
        Pooling::Mean => sequence.target_start..end,
        Pooling::LastToken => end - 1..end,
    };
    let weight = 1.0 / counted.len() as f32;
    (0..length).map(|place| if counted.contains(&place) { weight } else { 0.0 }).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use lm::batch::collate;

    use super::*;
    use crate::stage::tests::{PERSPECTIVES, language_model, records};

    #[test]
    fn weights_leave_out_prompt_padding_and_the_last_token() {
        let sequence = Sequence { tokens: vec![9; 6], target_start: 2, answer_span: 4..5 };
        let third = 1.0 / 3.0;
        assert_eq!(weights(&sequence, Pooling::Mean, 8), [0.0, 0.0, third, third, third, 0.0, 0.0, 0.0]);
        assert_eq!(weights(&sequence, Pooling::LastToken, 7), [0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn completions_are_marked_by_their_answer() {
        let model = language_model(1);
        let mut records = records(2);
        records[1].rationales[0].text = "So it is nothing. The answer is \\boxed{999}".into();
        records[1].rationales[1].text = String::new();
        let Marked { sequences, right, questions } = marked(&model, &records).unwrap();
        assert_eq!(right, [1, 1, 0], "a text of nothing has no vector");
        assert_eq!(questions, ["0", "0", "1"]);
        let (_, whole, _) = texts(&model, &PERSPECTIVES.map(str::to_owned), &records[..1]).unwrap();
        assert_eq!(sequences[0].target_start, whole[0].target_start);
        assert_eq!(sequences[0].tokens.last(), Some(&model.tokenizer.eos()));
    }

    #[test]
    fn vectors_are_means_of_hidden_states_whatever_the_batch() {
        let model = language_model(1);
        let perspectives = ["planning".to_owned(), "analogy".to_owned()];
        let (texts, sequences, too_long) = texts(&model, &perspectives, &records(5)).unwrap();
        assert_eq!((texts.len(), too_long), (10, 0));
        assert_eq!(texts[3], Text { question: "1".into(), perspective: 1 });

        let mut heard = Vec::new();
        let found = vectors(&model, &sequences, Pooling::Mean, 4, |count| {
            heard.push(count);
            Ok(())
        });
        let found = found.unwrap();
        assert_eq!(heard, [4, 4, 2]);
        assert_eq!(found.len(), model.config.num_hidden_layers + 1);

        for (row, sequence) in sequences.iter().enumerate() {
            let batch = collate(&[sequence], &model.model.device());
            let width = model.config.hidden_size;
            let states: Vec<f64> = batch.hidden(&model.model).into_data().iter::<f64>().collect();
            let counted = sequence.target_start..sequence.tokens.len() - 1;
            for column in 0..width {
                let sum: f64 = counted.clone().map(|place| states[place * width + column]).sum();
                let expected = sum / counted.len() as f64;
                let found = found.last().unwrap()[(row, column)];
                // f32 sums in another order.
                assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
            }
        }
    }
}
