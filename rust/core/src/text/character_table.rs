//! A number for every character, computed page by page: a text has characters of a few pages only.

use std::sync::OnceLock;

const PAGE: usize = 256;
const PAGES: usize = char::MAX as usize / PAGE + 1;

/// Shared by threads; the first character of a page computes the numbers of all its characters.
pub struct CharacterTable([OnceLock<Box<[u32; PAGE]>>; PAGES]);

impl CharacterTable {
    // 70 kB: a static, or moved to the heap at once.
    #[allow(clippy::large_stack_arrays)]
    pub const fn new() -> Self {
        Self([const { OnceLock::new() }; PAGES])
    }

    /// The number of a character; `compute` must be the same function in every call.
    #[inline]
    pub fn get(&self, character: char, compute: impl Fn(char) -> u32) -> u32 {
        let (page, place) = (character as usize / PAGE, character as usize % PAGE);
        match self.0[page].get() {
            Some(numbers) => numbers[place],
            None => self.fill(page, compute)[place],
        }
    }

    #[cold]
    #[inline(never)]
    fn fill(&self, page: usize, compute: impl Fn(char) -> u32) -> &[u32; PAGE] {
        // A surrogate is no character.
        let number = |place| char::from_u32((page * PAGE + place) as u32).map_or(0, &compute);
        self.0[page].get_or_init(|| Box::new(std::array::from_fn(number)))
    }
}
