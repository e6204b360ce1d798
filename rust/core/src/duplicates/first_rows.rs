//! One table of 16-byte slots that keeps the first row of each fingerprint.

/// The upper 88 bits of a fingerprint, then row + 1; 0 is a free slot. The probability that any two of n different keys
/// share 88 bits is about n² / 2^89: 2e-7 for ten billion rows.
pub type Slot = u128;

const ROW_BITS: u32 = 40;
const ROW_MASK: u128 = (1 << ROW_BITS) - 1;
/// The row of a fingerprint of another corpus; no corpus has so many rows.
pub const ELSEWHERE: u64 = (1 << ROW_BITS) - 2;
const SMALLEST_BITS: u32 = 12;
/// Slots that are fetched before the first of them is used, so that a probe seldom waits for memory.
const AHEAD: usize = 16;

pub fn slot(fingerprint: u128, row: u64) -> Slot {
    (fingerprint & !ROW_MASK) | (u128::from(row) + 1)
}

pub fn row(slot: Slot) -> u64 {
    (slot & ROW_MASK) as u64 - 1
}

/// Whether two slots have the same fingerprint.
pub fn same(one: Slot, other: Slot) -> bool {
    (one ^ other) & !ROW_MASK == 0
}

pub struct FirstRows {
    slots: Vec<Slot>,
    bits: u32,
    /// Leading bits that all fingerprints in this table share.
    shared: u32,
    used: usize,
    max_bytes: usize,
}

impl FirstRows {
    /// `max_bytes` bounds the table, the old one included while it grows; all fingerprints share `shared` leading bits.
    pub fn new(max_bytes: usize, shared: u32) -> Self {
        Self { slots: vec![0; 1 << SMALLEST_BITS], bits: SMALLEST_BITS, shared, used: 0, max_bytes }
    }

    /// Empties the table. It keeps its size: memory that was used before is much faster than fresh memory.
    pub fn clear(&mut self) {
        self.slots.fill(0);
        self.used = 0;
    }

    /// How many fingerprints fit into a table of `max_bytes`.
    pub fn capacity(max_bytes: usize) -> usize {
        let mut slots = 1 << SMALLEST_BITS;
        while 3 * slots * size_of::<Slot>() <= max_bytes {
            slots *= 2;
        }
        slots / 4 * 3
    }

    /// Makes room for `more` fingerprints; false if this would exceed `max_bytes`.
    pub fn reserve(&mut self, more: usize) -> bool {
        while (self.used + more) * 4 > self.slots.len() * 3 {
            if 3 * self.slots.len() * size_of::<Slot>() > self.max_bytes {
                return false;
            }
            self.grow();
        }
        true
    }

    /// Adds slots after `reserve`, and calls `earlier` for each with its index and the row that had its fingerprint before.
    pub fn insert(&mut self, new: &[Slot], mut earlier: impl FnMut(usize, Option<u64>)) {
        for (window, slots) in new.chunks(AHEAD).enumerate() {
            let fetched = slots.iter().fold(0, |all, &slot| all ^ self.slots[self.place(slot)]);
            std::hint::black_box(fetched);
            for (index, &slot) in slots.iter().enumerate() {
                let at = self.find(slot);
                let held = self.slots[at];
                if held == 0 {
                    self.slots[at] = slot;
                    self.used += 1;
                }
                earlier(window * AHEAD + index, (held != 0).then(|| row(held)));
            }
        }
    }

    /// All used slots; fingerprints with equal leading bits are next to each other.
    pub fn held(&self) -> impl Iterator<Item = Slot> + '_ {
        self.slots.iter().copied().filter(|&slot| slot != 0)
    }

    fn grow(&mut self) {
        self.bits += 1;
        let old = std::mem::replace(&mut self.slots, vec![0; 1 << self.bits]);
        // Slots are in the order of their leading bits, so this writes from front to back.
        for slot in old.into_iter().filter(|&slot| slot != 0) {
            let at = self.find(slot);
            self.slots[at] = slot;
        }
    }

    fn place(&self, slot: Slot) -> usize {
        ((slot << self.shared) >> (u128::BITS - self.bits)) as usize
    }

    /// The index of the fingerprint, or of the free slot where it belongs.
    fn find(&self, slot: Slot) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = self.place(slot);
        while self.slots[at] != 0 && !same(self.slots[at], slot) {
            at = (at + 1) & mask;
        }
        at
    }
}
