//! TMX: a document, or what is left of one.
#![no_main]

use catprune_core::corpus::Input;
use catprune_fuzz::{file, read};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let input =
        |path| Input::Tmx { path, source_language: "en".to_owned(), target_language: "de".to_owned() };
    let _ = read(input(file("tmx", bytes)));
    let inside = [&b"<tmx><body><tu>"[..], bytes, b"</tu></body></tmx>"].concat();
    let _ = read(input(file("tmx", &inside)));
});
