//! Python's random generator, to repeat the shuffles of harnesses written in it.
//!
//! MT19937 (Matsumoto and Nishimura 1998) as `random.Random(seed)` seeds and draws from it. For nothing else:
//! what this project draws itself comes from ChaCha.

const LENGTH: usize = 624;
const MIDDLE: usize = 397;

/// `random.Random`.
pub(crate) struct Random {
    state: Vec<u32>,
    at: usize,
}

impl Random {
    /// `random.Random(seed)`.
    pub(crate) fn new(seed: u32) -> Self {
        let mut state = vec![19_650_218_u32];
        for index in 1..LENGTH {
            let before = state[index - 1];
            let mixed = (before ^ (before >> 30)).wrapping_mul(1_812_433_253);
            state.push(mixed.wrapping_add(u32::try_from(index).expect("624 fits")));
        }
        // `init_by_array` with the seed as its only word.
        let mut at = 1;
        let mix = |state: &[u32], at: usize, factor: u32| {
            let before = state[at - 1];
            state[at] ^ (before ^ (before >> 30)).wrapping_mul(factor)
        };
        for _ in 0..LENGTH {
            state[at] = mix(&state, at, 1_664_525).wrapping_add(seed);
            at = following(&mut state, at);
        }
        for _ in 1..LENGTH {
            let place = u32::try_from(at).expect("624 fits");
            state[at] = mix(&state, at, 1_566_083_941).wrapping_sub(place);
            at = following(&mut state, at);
        }
        state[0] = 0x8000_0000;
        Self { state, at: LENGTH }
    }

    fn next(&mut self) -> u32 {
        if self.at == LENGTH {
            for index in 0..LENGTH {
                let joined =
                    (self.state[index] & 0x8000_0000) | (self.state[(index + 1) % LENGTH] & 0x7fff_ffff);
                let twist = if joined & 1 == 1 { 0x9908_b0df } else { 0 };
                self.state[index] = self.state[(index + MIDDLE) % LENGTH] ^ (joined >> 1) ^ twist;
            }
            self.at = 0;
        }
        let mut word = self.state[self.at];
        self.at += 1;
        word ^= word >> 11;
        word ^= (word << 7) & 0x9d2c_5680;
        word ^= (word << 15) & 0xefc6_0000;
        word ^ (word >> 18)
    }

    /// A number below `n`, as `_randbelow`: bits are redrawn until they are small enough.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        let bits = usize::BITS - n.leading_zeros();
        loop {
            let drawn = if bits == 0 { 0 } else { self.next() >> (32 - bits.min(32)) };
            let drawn = usize::try_from(drawn).expect("32 bits fit");
            if drawn < n || n == 0 {
                return drawn;
            }
        }
    }

    /// `sample(range(4), 4)`.
    pub(crate) fn sample_of_four(&mut self) -> [usize; 4] {
        let mut pool = [0, 1, 2, 3];
        std::array::from_fn(|place| {
            let drawn = self.below(4 - place);
            let found = pool[drawn];
            pool[drawn] = pool[3 - place];
            found
        })
    }

    /// `shuffle`.
    pub(crate) fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            let other = self.below(last + 1);
            items.swap(last, other);
        }
    }
}

fn following(state: &mut [u32], at: usize) -> usize {
    if at + 1 < LENGTH {
        return at + 1;
    }
    state[0] = state[LENGTH - 1];
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_what_python_draws() {
        // [random.Random(0).getrandbits(32) ..], [random.Random(42).randrange(n) for n in (1, 2, 10, 1000)].
        let mut random = Random::new(0);
        assert_eq!(
            [random.next(), random.next(), random.next()],
            [3_626_764_237, 1_654_615_998, 3_255_389_356]
        );
        let mut random = Random::new(42);
        assert_eq!([1, 2, 10, 1000].map(|n| random.below(n)), [0, 0, 4, 250]);
    }
}
