//! See [`gatepost_fuzz::guard`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::guard::check(data) {
        panic!("{what}");
    }
});
