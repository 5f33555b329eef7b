//! See [`gatepost_fuzz::scheme`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::scheme::check(data) {
        panic!("{what}");
    }
});
