//! See [`gatepost_fuzz::recovery`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::recovery::check(data) {
        panic!("{what}");
    }
});
