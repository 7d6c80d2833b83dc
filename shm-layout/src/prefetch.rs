//! A hint to the processor: these bytes will be read soon.
//!
//! It lies here because it needs `unsafe`, which no other crate of the packet path may use. It is worth that: a plain read in advance
//! holds up the instructions behind it until its bytes have come, a hint does not (figures in `bench/README.md`).

/// Has the cache lines of `value` fetched, and waits for none of them. Does nothing on processors without a stable intrinsic for it.
#[inline(always)]
pub fn prefetch<T>(value: &T) {
    const LINE: usize = 64;
    let start = (&raw const *value).cast::<i8>();
    for at in (0..size_of::<T>()).step_by(LINE) {
        line(start.wrapping_add(at));
    }
    // A value that does not begin with a line ends in one more.
    line(start.wrapping_add(size_of::<T>().saturating_sub(1)));
}

#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn line(address: *const i8) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    // SAFETY: a prefetch reads nothing that the program can see and cannot fault, whatever the address. The instruction is part of
    // SSE, which every x86_64 has. There is no safe way to it in stable Rust.
    unsafe { _mm_prefetch::<_MM_HINT_T0>(address) };
}

#[cfg(not(target_arch = "x86_64"))]
#[inline(always)]
fn line(_address: *const i8) {}

#[cfg(test)]
mod tests {
    use super::prefetch;

    #[test]
    fn values_of_any_size_and_place_are_left_as_they_are() {
        let bytes = std::array::from_fn::<u8, 1_000, _>(|at| at as u8);
        prefetch(&bytes);
        bytes.iter().for_each(prefetch);
        prefetch(&());
        prefetch(&bytes.as_slice()[..0].as_ptr());
        assert!(bytes.iter().enumerate().all(|(at, byte)| *byte == at as u8));
    }
}
