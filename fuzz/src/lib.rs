//! The script at the front of an input, which the fuzz targets share.

/// Instructions to a target. After the last one all are zero, which every target takes for the plain case: all bytes
/// at once and nothing unusual.
#[derive(Clone, Debug)]
pub struct Script<'i> {
    steps: &'i [u8],
}

impl<'i> Script<'i> {
    /// Splits an input into its instructions, whose number is its first byte, and the rest.
    pub fn split(input: &'i [u8]) -> (Self, &'i [u8]) {
        let (count, rest) = input.split_first().unwrap_or((&0, &[]));
        let (steps, rest) = rest.split_at_checked(usize::from(*count)).unwrap_or((&[], rest));
        (Self { steps }, rest)
    }

    /// Returns the next instruction.
    pub fn step(&mut self) -> u8 {
        let Some((step, rest)) = self.steps.split_first() else { return 0 };
        self.steps = rest;
        *step
    }

    /// Returns a length from 1 to `all`, most of them short; `all` after the last instruction.
    pub fn length(&mut self, all: usize) -> usize {
        match self.step() {
            0 => all,
            step @ 1..128 => usize::from(step).min(all),
            step => (usize::from(step) * 64).min(all),
        }
    }
}
