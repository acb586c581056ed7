//! Which tokens of a flat list stand where in a rectangle, and what each place of it may see.

use std::{
    ops::Range,
    sync::{Arc, OnceLock},
};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// No token.
const PADDING: u32 = u32::MAX;

/// Added to the scores of what may not be attended to; its exponential is zero, and it stays finite.
const MASKED: f32 = -1e9;

/// Tokens of a flat list in `batch` rows of `length` places, the rest of a row is padding.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) batch: usize,
    pub(crate) length: usize,
    /// The token at each place.
    tokens: Vec<u32>,
    /// The places that hold a token, in order.
    pub(super) filled: Vec<u32>,
    /// Where the places of each row begin in `filled`.
    starts: Vec<usize>,
    /// The places of each token of the list, token after token, and where those of each begin.
    places: Vec<u32>,
    begins: Vec<usize>,
    index: OnceLock<[Tensor<1, Int>; 2]>,
}

impl Rows {
    /// Rows of tokens; `tokens` is how many the flat list has.
    pub(crate) fn new<R: IntoIterator<Item = usize>>(
        rows: impl IntoIterator<Item = R>,
        tokens: usize,
    ) -> Self {
        let rows: Vec<Vec<u32>> =
            rows.into_iter().map(|row| row.into_iter().map(|token| token as u32).collect()).collect();
        let (batch, length) = (rows.len(), rows.iter().map(Vec::len).max().unwrap_or(0));
        let mut at = vec![PADDING; batch * length];
        let (mut filled, mut starts) = (Vec::new(), vec![0]);
        let mut begins = vec![0usize; tokens + 1];
        for (row, own) in rows.iter().enumerate() {
            at[row * length..][..own.len()].copy_from_slice(own);
            filled.extend((0..own.len()).map(|place| (row * length + place) as u32));
            starts.push(filled.len());
            own.iter().for_each(|token| begins[*token as usize + 1] += 1);
        }
        for token in 0..tokens {
            begins[token + 1] += begins[token];
        }
        let mut next = begins.clone();
        let mut places = vec![0; filled.len()];
        for place in &filled {
            let token = at[*place as usize] as usize;
            places[next[token]] = *place;
            next[token] += 1;
        }
        Self { batch, length, tokens: at, filled, starts, places, begins, index: OnceLock::new() }
    }

    /// All places.
    pub(crate) fn places(&self) -> usize {
        self.tokens.len()
    }

    /// Tokens of the flat list.
    pub(super) fn tokens(&self) -> usize {
        self.begins.len() - 1
    }

    /// The tokens at the places of a row.
    pub(super) fn tokens_of(&self, row: usize) -> impl Iterator<Item = Option<usize>> {
        let row = &self.tokens[row * self.length..][..self.length];
        row.iter().map(|token| (*token != PADDING).then_some(*token as usize))
    }

    /// The places of a token.
    pub(super) fn places_of(&self, token: usize) -> &[u32] {
        &self.places[self.begins[token]..self.begins[token + 1]]
    }

    /// A row's part of `filled`.
    pub(super) fn filled_of(&self, row: usize) -> Range<usize> {
        self.starts[row]..self.starts[row + 1]
    }

    /// The token of each place (any for padding), and the places that hold one.
    pub(super) fn index(&self, device: &Device) -> &[Tensor<1, Int>; 2] {
        self.index.get_or_init(|| {
            let token = |token: &u32| if *token == PADDING { 0 } else { token.cast_signed() };
            let tokens: Vec<i32> = self.tokens.iter().map(token).collect();
            let filled: Vec<i32> = self.filled.iter().map(|place| place.cast_signed()).collect();
            [tokens, filled].map(|index| Tensor::from_data(index.as_slice(), device))
        })
    }
}

/// The keys a query sees: those before `prefix`, and `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The end of the first run.
    pub prefix: usize,
    /// The beginning of the second; not before `prefix`.
    pub from: usize,
    /// The end of the second; not before `from`.
    pub to: usize,
}

impl Span {
    /// The smallest span that holds both.
    fn and(self, other: Self) -> Self {
        let prefix = self.prefix.max(other.prefix);
        let (from, to) = (self.from.min(other.from), self.to.max(other.to));
        if from < prefix { Self { prefix: 0, from: 0, to } } else { Self { prefix, from, to } }
    }

    fn keys(self) -> usize {
        self.prefix + self.to - self.from
    }
}

/// Neighbouring queries, and the keys that any of them sees.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) queries: Range<usize>,
    seen: Span,
    /// What each query sees of these keys.
    pub(crate) mask: Arc<Mask>,
}

impl Part {
    /// The keys that are seen, or their values.
    ///
    /// # Shapes
    ///
    /// - x: `[batch, heads, keys, size]`
    /// - output: `[batch, heads, keys of the part, size]`
    pub(crate) fn of(&self, x: &Tensor<4>) -> Tensor<4> {
        let Span { prefix, from, to } = self.seen;
        let own = x.clone().narrow(2, from, to - from);
        if prefix == 0 { own } else { Tensor::cat(vec![x.clone().narrow(2, 0, prefix), own], 2) }
    }
}

/// Queries of a part; fewer would make products too small to be fast.
const PART: Range<usize> = 32..128;

/// What the queries of a batch see: `[batch, queries]` spans over so many keys.
#[derive(Debug)]
pub struct Mask {
    pub(crate) batch: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) spans: Vec<Span>,
    bias: OnceLock<Tensor<4>>,
    parts: OnceLock<Vec<Part>>,
}

impl Mask {
    /// The spans of every query of every row in turn.
    ///
    /// # Panics
    ///
    /// If there are not `batch` times as many as a row has queries, or one sees nothing or more than there is.
    pub fn new(batch: usize, keys: usize, spans: Vec<Span>) -> Self {
        let queries = spans.len() / batch.max(1);
        assert_eq!(spans.len(), batch * queries, "every row has as many queries");
        for span in &spans {
            let Span { prefix, from, to } = *span;
            assert!(prefix <= from && from <= to && to <= keys, "{span:?} is no part of {keys} keys");
            assert!(prefix > 0 || to > from, "every query sees a key");
        }
        Self { batch, queries, keys, spans, bias: OnceLock::new(), parts: OnceLock::new() }
    }

    /// Every query sees itself and all before it.
    pub fn causal(batch: usize, length: usize) -> Self {
        let row = (0..length).map(|place| Span { prefix: 0, from: 0, to: place + 1 });
        Self::new(batch, length, (0..batch).flat_map(|_| row.clone()).collect())
    }

    /// The queries in parts that together look at much less than every query at every key; none where there are no such.
    ///
    /// A part is what continues one prefix, cut where it is long; small ones stay together.
    pub(crate) fn parts(&self) -> &[Part] {
        self.parts.get_or_init(|| {
            let of = |query: usize| self.spans.iter().skip(query).step_by(self.queries);
            let begins = |query: usize| {
                of(query).zip(of(query - 1)).any(|(a, b)| (a.prefix, a.from) != (b.prefix, b.from))
            };
            let mut cuts = vec![0];
            for query in 1..self.queries {
                if query - cuts[cuts.len() - 1] >= PART.start && begins(query) {
                    cuts.push(query);
                }
            }
            cuts.push(self.queries);
            let cut = |run: &[usize]| {
                let (start, length) = (run[0], run[1] - run[0]);
                let count = length.div_ceil(PART.end);
                (0..count).map(move |at| start + length * at / count..start + length * (at + 1) / count)
            };
            let parts: Vec<Part> = cuts.windows(2).flat_map(cut).map(|queries| self.part(queries)).collect();
            let looked_at: usize = parts.iter().map(|part| part.queries.len() * part.seen.keys()).sum();
            if 4 * looked_at > 3 * self.queries * self.keys { Vec::new() } else { parts }
        })
    }

    fn part(&self, queries: Range<usize>) -> Part {
        let rows = self.spans.chunks(self.queries).flat_map(|row| &row[queries.clone()]);
        let seen = rows.clone().copied().reduce(Span::and).expect("a part has queries");
        let shift = seen.from - seen.prefix;
        let own = |span: &Span| Span { from: span.from - shift, to: span.to - shift, ..*span };
        let spans = rows.map(own).collect();
        Part { queries, seen, mask: Arc::new(Self::new(self.batch, seen.keys(), spans)) }
    }

    /// 0 or [`MASKED`]; `[batch, 1, queries, keys]`.
    pub(super) fn bias(&self, device: &Device) -> Tensor<4> {
        let bias = self.bias.get_or_init(|| {
            let mut bias = vec![MASKED; self.spans.len() * self.keys];
            for (row, span) in bias.chunks_exact_mut(self.keys.max(1)).zip(&self.spans) {
                row[..span.prefix].fill(0.0);
                row[span.from..span.to].fill(0.0);
            }
            Tensor::from_data(TensorData::new(bias, [self.batch, 1, self.queries, self.keys]), device)
        });
        bias.clone()
    }
}

/// True where the query (second axis) may attend to the key (third axis).
///
/// # Panics
///
/// If what a query sees is no [`Span`]: more than a run at the beginning and another one.
impl From<Tensor<3, Bool>> for Mask {
    fn from(mask: Tensor<3, Bool>) -> Self {
        let [batch, _, keys] = mask.dims();
        let sees: Vec<bool> = mask.into_data().iter::<bool>().collect();
        let span = |sees: &[bool]| {
            let run = |start: usize| sees[start..].iter().take_while(|sees| **sees).count() + start;
            let prefix = run(0);
            let from = sees[prefix..].iter().position(|sees| *sees).map_or(keys, |gap| prefix + gap);
            let to = run(from);
            assert!(!sees[to..].contains(&true), "a query sees a beginning and one more run of keys");
            Span { prefix, from, to }
        };
        Self::new(batch, keys, sees.chunks(keys.max(1)).map(span).collect())
    }
}
