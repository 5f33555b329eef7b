//! Durations and sizes.

use gatepost::units::{Size, Span, UnitError};

#[test]
fn durations_carry_units() {
    let millis = |text| Span::parse(text).map(|s| s.0.as_millis());
    assert_eq!(millis("500ms"), Ok(500));
    assert_eq!(millis("1h30m"), Ok(5_400_000));
    assert_eq!(millis("14d"), Ok(14 * 86_400_000));
    assert_eq!(millis("0s"), Ok(0));
    assert_eq!(millis("30"), Err(UnitError::NoUnit));
    assert_eq!(millis("99999999d"), Err(UnitError::TooLarge));
    assert_eq!(millis("1h30"), Err(UnitError::NoUnit));
    for text in ["", "s", "-1s", "1.5s", "1m1h", "1m2m", "10 s", "10S", "10w", "1h m"] {
        assert_eq!(millis(text), Err(UnitError::Unknown), "{text}");
    }
}

#[test]
fn sizes_carry_units() {
    let bytes = |text| Size::parse(text).map(|s| s.0);
    assert_eq!(bytes("1MiB"), Ok(1_048_576));
    assert_eq!(bytes("25MB"), Ok(25_000_000));
    assert_eq!(bytes("512B"), Ok(512));
    assert_eq!(bytes("10"), Err(UnitError::NoUnit));
    assert_eq!(bytes("9999999TiB"), Err(UnitError::TooLarge));
    for text in ["", "10m", "10M", "1KB", "1 MiB", "1MiB1KiB", "MiB"] {
        assert_eq!(bytes(text), Err(UnitError::Unknown), "{text}");
    }
}

#[test]
fn what_is_printed_reads_back() {
    for text in ["1d12h", "250ms", "1m30s", "7d", "0s"] {
        assert_eq!(Span::parse(text).map(|s| s.to_string()), Ok(text.to_owned()));
    }
    for text in ["1MiB", "3kB", "1GiB", "1001B"] {
        assert_eq!(Size::parse(text).map(|s| s.to_string()), Ok(text.to_owned()));
    }
}
