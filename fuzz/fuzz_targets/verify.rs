//! See [`gatepost_fuzz::verify`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::verify::check(data) {
        panic!("{what}");
    }
});
