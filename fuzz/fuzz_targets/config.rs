//! See [`gatepost_fuzz::config`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Err(what) = gatepost_fuzz::config::check(data) {
        panic!("{what}");
    }
});
