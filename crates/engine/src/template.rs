//! Chat templates: the Jinja program inside a model file that turns a conversation into a prompt.
//!
//! Rendered as Hugging Face's `apply_chat_template` does it: `trim_blocks`, `lstrip_blocks`, Python's string methods,
//! `raise_exception`, `strftime_now`, `tojson` with Python's spacing, `bos_token`, `eos_token`, and
//! `add_generation_prompt` set.

mod python_json;

use minijinja::value::{Kwargs, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, context};
use protocol::task::Message;
use std::io;
use std::time::SystemTime;
use zeroize::Zeroizing;

/// Longest source of a template, in bytes; the longest in public models are about 20 kB.
const SOURCE_BYTES_MAX: usize = 1 << 20;
/// Instructions that a template may run, whatever it renders.
const FUEL: u64 = 100_000;
/// Instructions more for each message.
const FUEL_PER_MESSAGE: u64 = 2_000;
/// Output that a template may add of its own, in bytes.
const OUTPUT_BYTES: usize = 1 << 20;
/// Longest text of an error, in characters. It may quote a message and goes to the asker only.
const ERROR_CHARS_MAX: usize = 300;
/// The only template of an environment.
const NAME: &str = "chat";

/// A model's chat template, compiled.
///
/// A template is part of a model file that nobody may have read, so it is hostile until proven otherwise. It can reach
/// nothing but the messages. Its instructions are counted and its output is bounded. The size of a *variable* is not
/// (`x ~ x` in a loop doubles it at each turn): the memory limit of the worker process is the bound on that.
///
/// ```
/// use engine::ChatTemplate;
/// use protocol::task::Message;
///
/// let source = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}[assistant]";
/// let template = ChatTemplate::parse(source, "<s>", "</s>")?;
/// let messages = [Message { role: "user".to_owned(), content: "Hello".to_owned() }];
/// let prompt = template.render(&messages, std::time::SystemTime::now())?;
/// assert_eq!(*prompt, "[user] Hello</s>[assistant]");
/// # Ok::<(), engine::TemplateError>(())
/// ```
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

/// Why a chat template gave no prompt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It is not a Jinja template that can be read. The model needs another file.
    #[error("the model's chat template cannot be read: {reason}")]
    Syntax {
        /// What the parser said.
        reason: String,
    },
    /// It refused these messages, or failed on them.
    #[error("the model's chat template refused the messages: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// It did not end in the instructions, or wrote more than the output, that such messages need.
    #[error("the model's chat template does not end: send fewer messages, or use another model")]
    Endless,
}

impl ChatTemplate {
    /// Compiles a template. `bos` and `eos` are the texts of the model's begin and end tokens, empty where it has none.
    pub fn parse(source: &str, bos: &str, eos: &str) -> Result<Self, TemplateError> {
        if source.len() > SOURCE_BYTES_MAX {
            return Err(TemplateError::Syntax { reason: format!("longer than {SOURCE_BYTES_MAX} bytes") });
        }
        let mut environment = Environment::new();
        environment.set_trim_blocks(true);
        environment.set_lstrip_blocks(true);
        environment.set_auto_escape_callback(|_| AutoEscape::None);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", raise_exception);
        environment.add_filter("tojson", to_json);
        environment
            .add_template_owned(NAME, without_generation_blocks(source))
            .map_err(|error| TemplateError::Syntax { reason: reason(&error) })?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// The prompt that asks for the next message of this conversation. `now` is what templates print as today's date,
    /// in UTC.
    pub fn render(&self, messages: &[Message], now: SystemTime) -> Result<Zeroizing<String>, TemplateError> {
        // Cheap: templates and functions inside are shared.
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + FUEL_PER_MESSAGE * messages.len() as u64));
        let template = environment.get_template(NAME).expect("added when it was parsed");

        let variables = context! {
            messages => messages,
            add_generation_prompt => true,
            bos_token => &self.bos,
            eos_token => &self.eos,
            tools => Value::from(()),
            documents => Value::from(()),
            strftime_now => Value::from_function(move |format: &str| strftime(now, format)),
        };
        let content: usize = messages.iter().map(|message| message.role.len() + message.content.len()).sum();
        let mut output =
            Bounded { bytes: Zeroizing::new(Vec::with_capacity(content + 4096)), room: OUTPUT_BYTES + 4 * content };
        match template.render_captured_to(variables, &mut output) {
            Ok(_) => {}
            Err(_) if output.room == 0 => return Err(TemplateError::Endless),
            Err(error) if error.kind() == ErrorKind::OutOfFuel => return Err(TemplateError::Endless),
            Err(error) => return Err(TemplateError::Refused { reason: reason(&error) }),
        }
        let bytes = std::mem::take(&mut *output.bytes);
        Ok(Zeroizing::new(String::from_utf8(bytes).expect("a template writes text")))
    }
}

/// Output with an end. `room` is zero after it was asked to hold too much.
struct Bounded {
    bytes: Zeroizing<Vec<u8>>,
    room: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.room.checked_sub(bytes.len()).filter(|room| *room > 0) {
            Some(room) => {
                self.room = room;
                self.bytes.extend_from_slice(bytes);
                Ok(bytes.len())
            }
            None => {
                self.room = 0;
                Err(io::ErrorKind::OutOfMemory.into())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The message and position of a template's error, bounded.
fn reason(error: &Error) -> String {
    let detail = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    let mut reason: String = detail.chars().take(ERROR_CHARS_MAX).collect();
    if let Some(line) = error.line() {
        reason.push_str(&format!(" (line {line} of the template)"));
    }
    reason
}

/// Templates call this to refuse a conversation, such as one whose roles do not alternate.
fn raise_exception(message: &str) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, message.to_owned()))
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`. The filter of minijinja escapes for HTML, which models have not
/// been trained on.
fn to_json(value: &Value, arguments: Kwargs) -> Result<String, Error> {
    let indent = arguments.get::<Option<usize>>("indent")?.map(|indent| indent.min(16));
    python_json::to_string(value, indent)
        .map_err(|error| Error::new(ErrorKind::BadSerialization, "no JSON for this value").with_source(error))
}

fn strftime(now: SystemTime, format: &str) -> Result<String, Error> {
    let failed = |error: jiff::Error| Error::new(ErrorKind::InvalidOperation, format!("strftime_now: {error}"));
    let now = jiff::Timestamp::try_from(now).map_err(failed)?.to_zoned(jiff::tz::TimeZone::UTC);
    jiff::fmt::strtime::format(format, &now).map_err(failed)
}

/// Hugging Face has a block of its own, `{% generation %}`, that marks for training what the assistant says and
/// renders what is in it. Jinja does not know it; a condition that holds does the same.
fn without_generation_blocks(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let (before, block) = rest.split_at(open);
        out.push_str(before);
        let end = block.find("%}").map_or(block.len(), |close| close + 2);
        let (block, after) = block.split_at(end);
        let word = block.trim_start_matches("{%").trim_end_matches("%}");
        match word.trim_matches(|c: char| c.is_whitespace() || c == '-' || c == '+') {
            "generation" => out.push_str(&block.replace("generation", "if true")),
            "endgeneration" => out.push_str(&block.replace("endgeneration", "endif")),
            _ => out.push_str(block),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests;
