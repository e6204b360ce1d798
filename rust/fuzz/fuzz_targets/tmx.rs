//! TMX: a document, or a part of one.
#![no_main]

use catprune_core::corpus::request::Input;
use catprune_fuzz::{file, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let input = |path, whole| {
        let [source_language, target_language] = ["en", "de"].map(str::to_owned);
        Input::Tmx { path, source_language, target_language, whole }
    };
    let _ = read(input(file("tmx", bytes), false));
    let inside = file("tmx", &[&b"<tmx><body><tu>"[..], bytes, b"</tu></body></tmx>"].concat());
    let records = read(input(inside.clone(), false));
    assert_eq!(records.ok(), read(input(inside, true)).ok());
});
