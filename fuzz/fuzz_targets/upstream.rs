//! See [`gatepost_fuzz::upstream`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::upstream::check(data) {
        panic!("{what}");
    }
});
