//! Chat templates: hostile messages in ordinary templates, and hostile templates, which come out of model files.
//!
//! Strange templates are parsed and not rendered: the size of what they compute is bounded by the memory of the worker
//! process alone, see `engine::ChatTemplate`.
#![no_main]

use engine::ChatTemplate;
use libfuzzer_sys::fuzz_target;
use protocol::task::Message;
use std::{sync::LazyLock, time::UNIX_EPOCH};

const CHATML: &str = "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] \
    + '<|im_end|>' + '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";
const METHODS: &str = "{{ bos_token }}{% for m in messages %}{{ m.role.title() }}: {{ m.content | trim }} \
    {{ m.content.split('\n')[0].strip().upper() }} {{ m | tojson }}{{ eos_token }}{% endfor %}{{ strftime_now('%d %b %Y') }}";

static TEMPLATES: LazyLock<[ChatTemplate; 2]> = LazyLock::new(|| {
    [CHATML, METHODS].map(|source| ChatTemplate::parse(source, "<s>", "</s>").expect("a good template"))
});

fuzz_target!(|input: (Vec<(&str, &str)>, &str)| {
    let (turns, source) = input;
    let messages: Vec<Message> =
        turns.iter().map(|(role, content)| Message { role: (*role).into(), content: (*content).into() }).collect();
    let [plain, methods] = &*TEMPLATES;
    if let Ok(prompt) = plain.render(&messages, UNIX_EPOCH) {
        assert!(
            messages.iter().all(|message| prompt.contains(&message.content)),
            "a message is missing from the prompt"
        );
    }
    let _ = methods.render(&messages, UNIX_EPOCH);
    let _ = ChatTemplate::parse(source, "<s>", "</s>");
});
