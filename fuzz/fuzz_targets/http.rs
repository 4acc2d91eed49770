#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| exo_tests::fuzz::http(data));
