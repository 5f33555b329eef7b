//! See [`gatepost_fuzz::identify`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::identify::check(data) {
        panic!("{what}");
    }
});
