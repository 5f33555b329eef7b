//! See [`gatepost_fuzz::audit`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::audit::check(data) {
        panic!("{what}");
    }
});
