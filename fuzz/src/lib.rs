//! What the fuzz targets share: the instructions that stand in front of an input.

/// Instructions to a target. When they have been used up, they are all zero, by which every target means
/// the plain case: all at once, and nothing unusual.
#[derive(Clone, Debug)]
pub struct Script<'i> {
    steps: &'i [u8],
}

impl<'i> Script<'i> {
    /// Splits an input into its instructions, the number of which is its first byte, and the rest.
    pub fn split(input: &'i [u8]) -> (Self, &'i [u8]) {
        let (count, rest) = input.split_first().unwrap_or((&0, &[]));
        let (steps, rest) = rest.split_at_checked(usize::from(*count)).unwrap_or((&[], rest));
        (Self { steps }, rest)
    }

    /// The next instruction.
    pub fn step(&mut self) -> u8 {
        let Some((step, rest)) = self.steps.split_first() else { return 0 };
        self.steps = rest;
        *step
    }

    /// A length from 1 to `all`, most of them short; `all` once the instructions have been used up.
    pub fn length(&mut self, all: usize) -> usize {
        match self.step() {
            0 => all,
            step @ 1..128 => usize::from(step).min(all),
            step => (usize::from(step) * 64).min(all),
        }
    }
}
