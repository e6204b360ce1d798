//! SIMD lanes: registers of 32 bytes if the processor has x86-64-v3 (AVX2), otherwise of 16 bytes.
// `Width::run` is compiled for the instruction set of its lanes, but only with the functions inlined into it.
#![allow(clippy::inline_always)]

#[cfg(target_arch = "x86_64")]
use pulp::x86::V3;
use wide::{CmpEq, CmpGt, i8x16, u8x16};

/// Bytes of the widest lanes.
pub const MOST_LANES: usize = 32;

/// Registers of `COUNT` bytes. A comparison sets all bits of a byte, or none.
pub trait Lanes: Copy {
    type Bytes: Copy;
    const COUNT: usize;

    /// The first `COUNT` bytes of a slice that has at least as many.
    fn load(self, bytes: &[u8]) -> Self::Bytes;
    /// Writes to the first `COUNT` bytes of a slice that has at least as many.
    fn store(self, bytes: Self::Bytes, to: &mut [u8]);
    fn splat(self, byte: u8) -> Self::Bytes;
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn and(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Wraps on overflow.
    fn add(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    fn equal(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Where `a > b`, as signed numbers.
    fn above(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// The lower of two unsigned numbers, per byte.
    fn least(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// The highest bit of each byte; the bit of the first byte is the lowest of the mask.
    fn mask(self, bytes: Self::Bytes) -> u64;

    /// Where a byte is from `low` to `high`, both ASCII.
    #[inline(always)]
    fn between(self, bytes: Self::Bytes, low: u8, high: u8) -> Self::Bytes {
        // The shift makes `high` the highest signed number, so that one comparison with `low` is enough.
        let shifted = self.add(bytes, self.splat(i8::MAX as u8 - high));
        self.above(shifted, self.splat(i8::MAX as u8 - high + low - 1))
    }
}

/// Work that gives the same result on lanes of any width.
pub trait OnLanes {
    type Output;

    fn run<L: Lanes>(self, lanes: L) -> Self::Output;
}

/// The width of the lanes; 32 bytes only where the processor has them.
#[derive(Clone, Copy)]
pub enum Width {
    Sixteen,
    #[cfg(target_arch = "x86_64")]
    ThirtyTwo(V3),
}

impl Width {
    /// The widest lanes of this processor.
    pub fn widest() -> Self {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = V3::try_new() {
            return Self::ThirtyTwo(simd);
        }
        Self::Sixteen
    }

    pub fn run<W: OnLanes>(self, work: W) -> W::Output {
        match self {
            Self::Sixteen => work.run(Sixteen),
            #[cfg(target_arch = "x86_64")]
            Self::ThirtyTwo(lanes) => lanes.vectorize(OnV3 { work, lanes }),
        }
    }
}

#[cfg(target_arch = "x86_64")]
struct OnV3<W> {
    work: W,
    lanes: V3,
}

#[cfg(target_arch = "x86_64")]
impl<W: OnLanes> pulp::NullaryFnOnce for OnV3<W> {
    type Output = W::Output;

    #[inline(always)]
    fn call(self) -> W::Output {
        self.work.run(self.lanes)
    }
}

/// Lanes of 16 bytes, which every processor has.
#[derive(Clone, Copy)]
struct Sixteen;

#[inline(always)]
fn first<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&bytes[..N]);
    first
}

impl Lanes for Sixteen {
    type Bytes = i8x16;
    const COUNT: usize = 16;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> i8x16 {
        bytemuck::cast(first::<16>(bytes))
    }
    #[inline(always)]
    fn store(self, bytes: i8x16, to: &mut [u8]) {
        to[..16].copy_from_slice(&bytemuck::cast::<_, [u8; 16]>(bytes));
    }
    #[inline(always)]
    fn splat(self, byte: u8) -> i8x16 {
        i8x16::splat(byte as i8)
    }
    #[inline(always)]
    fn or(self, a: i8x16, b: i8x16) -> i8x16 {
        a | b
    }
    #[inline(always)]
    fn and(self, a: i8x16, b: i8x16) -> i8x16 {
        a & b
    }
    #[inline(always)]
    fn add(self, a: i8x16, b: i8x16) -> i8x16 {
        a + b
    }
    #[inline(always)]
    fn equal(self, a: i8x16, b: i8x16) -> i8x16 {
        a.cmp_eq(b)
    }
    #[inline(always)]
    fn above(self, a: i8x16, b: i8x16) -> i8x16 {
        a.cmp_gt(b)
    }
    #[inline(always)]
    fn least(self, a: i8x16, b: i8x16) -> i8x16 {
        let least = bytemuck::cast::<_, u8x16>(a).min(bytemuck::cast(b));
        bytemuck::cast(least)
    }
    #[inline(always)]
    fn mask(self, bytes: i8x16) -> u64 {
        u64::from(bytes.move_mask() as u32)
    }
}

#[cfg(target_arch = "x86_64")]
impl Lanes for V3 {
    type Bytes = std::arch::x86_64::__m256i;
    const COUNT: usize = 32;

    #[inline(always)]
    fn load(self, bytes: &[u8]) -> Self::Bytes {
        bytemuck::cast(first::<32>(bytes))
    }
    #[inline(always)]
    fn store(self, bytes: Self::Bytes, to: &mut [u8]) {
        to[..32].copy_from_slice(&bytemuck::cast::<_, [u8; 32]>(bytes));
    }
    #[inline(always)]
    fn splat(self, byte: u8) -> Self::Bytes {
        self.avx._mm256_set1_epi8(byte as i8)
    }
    #[inline(always)]
    fn or(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        self.avx2._mm256_or_si256(a, b)
    }
    #[inline(always)]
    fn and(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        self.avx2._mm256_and_si256(a, b)
    }
    #[inline(always)]
    fn add(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        self.avx2._mm256_add_epi8(a, b)
    }
    #[inline(always)]
    fn equal(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        self.avx2._mm256_cmpeq_epi8(a, b)
    }
    #[inline(always)]
    fn above(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        self.avx2._mm256_cmpgt_epi8(a, b)
    }
    #[inline(always)]
    fn least(self, a: Self::Bytes, b: Self::Bytes) -> Self::Bytes {
        self.avx2._mm256_min_epu8(a, b)
    }
    #[inline(always)]
    fn mask(self, bytes: Self::Bytes) -> u64 {
        u64::from(self.avx2._mm256_movemask_epi8(bytes) as u32)
    }
}
