//! Text to tokens and back, over Hugging Face `tokenizer.json` files.
//!
//! Encoding never adds tokens of its own, and a special token spelled out in a text is encoded as plain characters: a
//! dataset cannot end a sequence. Only [`Tokenizer::encode_rendered`] takes special tokens for what they are.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
};

use tokenizers::{
    AddedToken, ModelWrapper, PreTokenizerWrapper,
    models::bpe::{BPE, BpeTrainer},
    pre_tokenizers::{
        byte_level::ByteLevel,
        sequence::Sequence,
        split::{Split, SplitPattern},
    },
    tokenizer::SplitDelimiterBehavior,
};

use crate::LmError;

const PAD: &str = "<|pad|>";
const EOS: &str = "<|endoftext|>";

/// The tokens with a meaning, and how a conversation is written; from a checkpoint's configuration files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Special {
    /// The token before a text, where the model has one.
    pub bos: Option<u32>,
    /// The token that ends a text.
    pub eos: u32,
    /// Every token that ends what a model says; `eos` is one of them.
    pub stops: Vec<u32>,
    /// The token that fills up a batch.
    pub pad: u32,
    /// The Jinja template that writes a conversation as one text.
    pub chat_template: Option<String>,
}

impl Special {
    /// Only an end and a filler.
    pub fn new(eos: u32, pad: u32) -> Self {
        Self { eos, stops: vec![eos], pad, ..Self::default() }
    }
}

/// A tokenizer with the special tokens training and generation need.
#[derive(Clone)]
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    /// The same, but it knows special tokens; made when first asked for.
    rendered: OnceLock<Arc<tokenizers::Tokenizer>>,
    special: Special,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Tokenizer({} tokens)", self.vocab_size())
    }
}

impl Tokenizer {
    /// Learns a byte-level BPE vocabulary in which numbers are cut into groups of up to three digits.
    ///
    /// A frequent number is one token, the space before it included, so that copying it or adding to it takes one step;
    /// no token holds more of a number than three digits.
    ///
    /// The vocabulary is smaller than `vocab_size` where the texts are too few to fill it, and never smaller than the
    /// 256 bytes and two special tokens. Equal texts in equal order give an equal tokenizer.
    pub fn train(texts: impl Iterator<Item = String> + Send, vocab_size: usize) -> Result<Self, LmError> {
        let special = |text: &str| AddedToken::from(text, true);
        let trainer = BpeTrainer::builder()
            .vocab_size(vocab_size)
            .min_frequency(2)
            .show_progress(false)
            .special_tokens(vec![special(PAD), special(EOS)])
            .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
            .build();
        let mut inner = tokenizers::Tokenizer::new(ModelWrapper::BPE(BPE::default()));
        let digits = SplitPattern::Regex(r" ?\p{N}{1,3}".into());
        let split =
            Split::new(digits, SplitDelimiterBehavior::Isolated, false).map_err(LmError::Tokenizer)?;
        inner.with_pre_tokenizer(Some(Sequence::new(vec![
            PreTokenizerWrapper::Split(split),
            PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, true)),
        ])));
        inner.with_decoder(Some(ByteLevel::new(false, true, true)));
        inner
            .train(&mut tokenizers::models::TrainerWrapper::BpeTrainer(trainer), texts)
            .map_err(LmError::Tokenizer)?;
        let id = |token| inner.token_to_id(token).expect("the trainer adds its special tokens");
        let (pad, eos) = (id(PAD), id(EOS));
        Ok(Self::new(inner, Special::new(eos, pad)))
    }

    /// Reads a `tokenizer.json`; the special tokens come from the model's configuration.
    pub fn load(path: &Path, special: Special) -> Result<Self, LmError> {
        let bytes = std::fs::read(path).map_err(|source| LmError::Io { path: path.to_owned(), source })?;
        Self::parse(path, &bytes, special)
    }

    /// Reads the text of a `tokenizer.json` that came out of a file.
    pub(crate) fn parse(path: &Path, json: &[u8], special: Special) -> Result<Self, LmError> {
        let inner = tokenizers::Tokenizer::from_bytes(json)
            .map_err(|source| LmError::TokenizerFile { path: path.to_owned(), source })?;
        Ok(Self::new(inner, special))
    }

    fn new(mut inner: tokenizers::Tokenizer, special: Special) -> Self {
        inner.set_encode_special_tokens(true);
        // What a file says of cutting and filling is for other programs: we do both ourselves.
        inner.with_padding(None);
        inner.with_truncation(None).expect("no truncation is always valid");
        Self { inner, rendered: OnceLock::new(), special }
    }

    /// The same tokenizer with other special tokens.
    pub fn with_special(self, special: Special) -> Self {
        Self { special, ..self }
    }

    /// Writes a `tokenizer.json`.
    pub fn save(&self, path: &Path) -> Result<(), LmError> {
        let text = self.inner.to_string(true).map_err(LmError::Tokenizer)?;
        std::fs::write(path, text).map_err(|source| LmError::Io { path: path.to_owned(), source })
    }

    /// The tokens of a text, without any added ones.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, LmError> {
        let encoding = self.inner.encode_fast(text, false).map_err(LmError::Tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The tokens that the tokenizer puts before every text: the beginning-of-text token of a Llama, nothing elsewhere.
    pub fn beginning(&self) -> Result<Vec<u32>, LmError> {
        let text = self.encode("a")?;
        let encoding = self.inner.encode_fast("a", true).map_err(LmError::Tokenizer)?;
        let all = encoding.get_ids();
        let before = all.windows(text.len()).position(|window| window == text).unwrap_or(0);
        Ok(all[..before].to_vec())
    }

    /// The tokens of a text as a model reads it, such as a chat template writes: special tokens spelled out in it are those
    /// tokens.
    ///
    /// What a user or a dataset says must not be in such a text unless it was checked for special tokens first.
    pub fn encode_rendered(&self, text: &str) -> Result<Vec<u32>, LmError> {
        let rendered = self.rendered.get_or_init(|| {
            let mut inner = self.inner.clone();
            inner.set_encode_special_tokens(false);
            Arc::new(inner)
        });
        let encoding = rendered.encode_fast(text, false).map_err(LmError::Tokenizer)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// The text of tokens; special tokens are left out.
    pub fn decode(&self, tokens: &[u32]) -> Result<String, LmError> {
        self.inner.decode(tokens, true).map_err(LmError::Tokenizer)
    }

    /// The text of tokens, special ones spelled out; [`Tokenizer::encode_rendered`] reads it.
    pub fn decode_rendered(&self, tokens: &[u32]) -> Result<String, LmError> {
        self.inner.decode(tokens, false).map_err(LmError::Tokenizer)
    }

    /// The token that ends a text.
    pub fn eos(&self) -> u32 {
        self.special.eos
    }

    /// Every token that ends what the model says; [`Tokenizer::eos`] is one of them.
    pub fn stops(&self) -> &[u32] {
        &self.special.stops
    }

    /// The token before a text, where the model has one.
    pub fn bos(&self) -> Option<u32> {
        self.special.bos
    }

    /// The Jinja template that writes a conversation as one text, where the model has one.
    pub fn chat_template(&self) -> Option<&str> {
        self.special.chat_template.as_deref()
    }

    /// The token that fills up a batch.
    pub fn pad(&self) -> u32 {
        self.special.pad
    }

    /// How a token is written, if there is such a token.
    pub fn token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The id of a token as it is written.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The largest id of a token.
    pub fn largest_id(&self) -> u32 {
        self.inner.get_vocab(true).into_values().max().unwrap_or(0)
    }

    /// Tokens, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn texts() -> impl Iterator<Item = String> + Send {
        (0..50).map(|i| {
            format!("Tom has {} apples and buys {} more. The answer is \\boxed{{{}}}", i, i + 7, 2 * i + 7)
        })
    }

    #[test]
    fn frequent_numbers_are_one_token_and_text_survives() {
        let tokenizer = Tokenizer::train(texts(), 400).unwrap();
        let text = "Tom buys 1234 apples.\nÄpfel – 42!";
        let tokens = tokenizer.encode(text).unwrap();
        assert_eq!(tokenizer.decode(&tokens).unwrap(), text);
        let spelled: Vec<String> = tokens.iter().map(|id| tokenizer.token(*id).unwrap()).collect();
        assert!(spelled.contains(&"Ġ42".to_owned()), "{spelled:?}");
        let digits = |token: &String| token.chars().filter(char::is_ascii_digit).count();
        assert!(spelled.iter().all(|token| digits(token) <= 3), "1234 is no token: {spelled:?}");
        assert!(spelled.len() < text.len());
    }

    #[test]
    fn a_text_cannot_smuggle_in_a_special_token() {
        let tokenizer = Tokenizer::train(texts(), 400).unwrap();
        let tokens = tokenizer.encode("apples <|endoftext|> more").unwrap();
        assert!(!tokens.contains(&tokenizer.eos()));
        assert_eq!(tokenizer.decode(&tokens).unwrap(), "apples <|endoftext|> more");
        // A rendered template may.
        let tokens = tokenizer.encode_rendered("apples <|endoftext|> more").unwrap();
        assert!(tokens.contains(&tokenizer.eos()));
        assert_eq!(tokenizer.decode(&tokens).unwrap(), "apples  more");
    }

    #[test]
    fn equal_texts_give_equal_files_which_load_again() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (folder.path().join("one.json"), folder.path().join("two.json"));
        let tokenizer = Tokenizer::train(texts(), 400).unwrap();
        tokenizer.save(&one).unwrap();
        Tokenizer::train(texts(), 400).unwrap().save(&two).unwrap();
        assert_eq!(std::fs::read(&one).unwrap(), std::fs::read(&two).unwrap());
        let loaded = Tokenizer::load(&one, Special::new(tokenizer.eos(), tokenizer.pad())).unwrap();
        assert_eq!(loaded.encode("Tom <|pad|> 12").unwrap(), tokenizer.encode("Tom <|pad|> 12").unwrap());
    }
}
