//! How the tokens of a flat list attend to each other.
//!
//! Texts follow one another without padding, so all that happens token by token wastes nothing. Attention needs rectangles:
//! texts of like length share a [`Block`], whose queries are neighbours in the list. A text may go on from another one,
//! its prefix, whose keys it sees: rationales of one question share the prompt, which is then computed once.

use std::{ops::Range, sync::Arc};

use crate::fused::{Mask, Rows, Span};

/// The padding of a block costs at most this part of its work on texts, unless it holds but one.
const MOST_PADDING: usize = 4;

/// A flat list of tokens: where each stands in its text, and what it attends to.
#[derive(Debug)]
pub struct Layout {
    pub(crate) positions: Vec<i32>,
    pub(crate) blocks: Vec<Block>,
}

/// Texts that attend side by side.
#[derive(Debug)]
pub(crate) struct Block {
    /// The tokens that ask.
    pub(crate) queries: Arc<Rows>,
    /// The tokens that they ask, those in a cache apart.
    pub(crate) keys: Arc<Rows>,
    pub(crate) mask: Arc<Mask>,
}

/// A text to be laid out: its length, and the text that it goes on from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Text {
    pub(crate) length: usize,
    /// A text without a prefix.
    pub(crate) prefix: Option<usize>,
}

impl Layout {
    /// Tokens in a rectangle, row after row, each at its position.
    pub(crate) fn rectangle(positions: &[i32], mask: Mask) -> Self {
        let (batch, length) = (mask.batch, mask.queries);
        assert_eq!(positions.len(), batch * length, "every token has a position");
        let rows = (0..batch).map(|row| row * length..(row + 1) * length);
        let rows = Arc::new(Rows::new(rows, batch * length));
        let block = Block { queries: Arc::clone(&rows), keys: rows, mask: Arc::new(mask) };
        Self { positions: positions.to_vec(), blocks: vec![block] }
    }

    /// Lays texts out, and says where the tokens of each stand in the list.
    pub(crate) fn of_texts(texts: &[Text]) -> (Self, Vec<Range<usize>>) {
        let before = |text: usize| texts[text].prefix.map_or(0, |prefix| texts[prefix].length);
        // Texts that others go on from come first; and texts of like length side by side.
        let mut order: Vec<usize> = (0..texts.len()).collect();
        order.sort_by_key(|text| (texts[*text].prefix.is_some(), texts[*text].length, before(*text)));
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let (mut queries, mut keys, mut own) = (0, 0, 0);
        for text in order {
            let (length, all) = (texts[text].length, before(text) + texts[text].length);
            let joined = (queries.max(length), keys.max(all), own + length * all);
            let fits = groups.last().is_some_and(|group| {
                let padded = (group.len() + 1) * joined.0 * joined.1;
                texts[group[0]].prefix.is_some() == texts[text].prefix.is_some()
                    && (padded - joined.2) * MOST_PADDING <= joined.2
            });
            match groups.last_mut() {
                Some(group) if fits => {
                    group.push(text);
                    (queries, keys, own) = joined;
                }
                _ => {
                    groups.push(vec![text]);
                    (queries, keys, own) = (length, all, length * all);
                }
            }
        }

        let mut places = vec![0..0; texts.len()];
        let mut positions = Vec::new();
        for text in groups.iter().flatten() {
            let (start, first) = (positions.len(), before(*text) as i32);
            positions.extend(first..first + texts[*text].length as i32);
            places[*text] = start..positions.len();
        }
        let prefix = |text: usize| texts[text].prefix.map_or(0..0, |prefix| places[prefix].clone());
        let block = |group: &Vec<usize>| {
            let queries = Rows::new(group.iter().map(|text| places[*text].clone()), positions.len());
            let keys = Rows::new(
                group.iter().map(|text| prefix(*text).chain(places[*text].clone())),
                positions.len(),
            );
            let spans = group.iter().flat_map(|text| {
                let (before, own, length) = (before(*text), texts[*text].length, queries.length);
                // What padding asks is not read; it has to ask something.
                (0..length).map(move |place| Span {
                    prefix: before,
                    from: before,
                    to: if place < own { before + place + 1 } else { before + 1 },
                })
            });
            let mask = Mask::new(group.len(), keys.length, spans.collect());
            Block { queries: Arc::new(queries), keys: Arc::new(keys), mask: Arc::new(mask) }
        };
        let blocks = groups.iter().map(block).collect();
        (Self { positions, blocks }, places)
    }
}
