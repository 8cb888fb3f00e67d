use super::*;
use std::time::{Duration, UNIX_EPOCH};

/// In the style of SmolLM2: a default system message, then marked turns.
const CHATML: &str = "\
{% for message in messages %}
{% if loop.first and messages[0]['role'] != 'system' %}
{{ '<|im_start|>system\\nBe brief.<|im_end|>\\n' }}
{%- endif %}
{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}
{%- endfor %}
{% if add_generation_prompt %}
{{ '<|im_start|>assistant\\n' }}
{%- endif %}
";

/// In the style of Llama 3: set blocks, slices, a date, `trim`, and BOS before the first turn.
const HEADERS: &str = "\
{{- bos_token }}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = \"\" %}
{%- endif %}
{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}
{%- if tools is not none %}
    {{- raise_exception('no tools expected') }}
{%- endif %}
{{- \"Today Date: \" + strftime_now(\"%d %b %Y\") + \"\\n\\n\" }}
{{- system_message }}
{{- \"<|eot_id|>\" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
";

fn messages(turns: &[(&str, &str)]) -> Vec<Message> {
    turns.iter().map(|(role, content)| Message { role: (*role).into(), content: (*content).into() }).collect()
}

/// 26 July 2024, 12:00 UTC.
fn noon() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_721_995_200)
}

fn render(source: &str, turns: &[(&str, &str)]) -> Result<String, TemplateError> {
    let template = ChatTemplate::parse(source, "<s>", "</s>")?;
    template.render(&messages(turns), noon()).map(|prompt| (*prompt).clone())
}

#[test]
fn chatml_style() {
    let turns = [("user", "Hi <b>\"you\"</b> & 漢字 🙂"), ("assistant", "Hello"), ("user", "{{ 7*7 }}")];
    assert_eq!(
        render(CHATML, &turns).unwrap(),
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi <b>\"you\"</b> & 漢字 🙂<|im_end|>\n\
         <|im_start|>assistant\nHello<|im_end|>\n<|im_start|>user\n{{ 7*7 }}<|im_end|>\n<|im_start|>assistant\n"
    );
}

#[test]
fn header_style_with_date() {
    assert_eq!(
        render(HEADERS, &[("system", " Be kind. "), ("user", "Hello\n")]).unwrap(),
        "<s><|start_header_id|>system<|end_header_id|>\n\nToday Date: 26 Jul 2024\n\nBe kind.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHello<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    );
}

#[test]
fn a_template_may_refuse_and_the_reason_reaches_the_asker() {
    let source = "{% if messages[0].role != 'user' %}\n{{ raise_exception('Roles must alternate') }}{% endif %}ok";
    assert_eq!(render(source, &[("user", "x")]).unwrap(), "ok");
    let refused = render(source, &[("system", "x")]).unwrap_err();
    assert_eq!(refused, TemplateError::Refused { reason: "Roles must alternate (line 2 of the template)".to_owned() });
}

#[test]
fn json_is_spaced_and_escaped_as_python_does() {
    let value = "{% set x = {'a': [1, 2.5, none, true], 'b': '<é\\n>'} %}";
    assert_eq!(
        render(&format!("{value}{{{{ x | tojson }}}}"), &[]).unwrap(),
        r#"{"a": [1, 2.5, null, true], "b": "<é\n>"}"#
    );
    assert_eq!(render("{{ {'a': 1} | tojson(indent=4) }}", &[]).unwrap(), "{\n    \"a\": 1\n}");
}

#[test]
fn python_methods_and_loop_controls_work() {
    let source = "{% for m in messages %}{% if m.content.startswith('skip') %}{% continue %}{% endif %}\
                  {{ m.content.strip().split('</think>')[-1].upper() }}{% endfor %}";
    assert_eq!(render(source, &[("user", "skip me"), ("user", " <think>a</think>b ")]).unwrap(), "B");
}

#[test]
fn generation_blocks_render_what_is_in_them() {
    let source = "{%- for m in messages -%}\n{% generation %}\n[{{ m.content }}]\n{%- endgeneration -%}\n{% endfor %}";
    assert_eq!(render(source, &[("assistant", "a"), ("assistant", "b")]).unwrap(), "[a][b]");
}

#[test]
fn broken_and_huge_templates_are_no_templates() {
    assert!(matches!(render("{% for x in %}", &[]), Err(TemplateError::Syntax { .. })));
    assert!(matches!(render("{{ ", &[]), Err(TemplateError::Syntax { .. })));
    assert!(matches!(render(&"x".repeat(SOURCE_BYTES_MAX + 1), &[]), Err(TemplateError::Syntax { .. })));
    assert!(render(&"(".repeat(10_000), &[]).is_ok());
    assert!(matches!(render(&format!("{{{{ {} }}}}", "(".repeat(10_000)), &[]), Err(TemplateError::Syntax { .. })));
}

#[test]
fn loops_without_end_run_out_of_instructions() {
    let nested = "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}";
    assert_eq!(render(nested, &[("user", "x")]), Err(TemplateError::Endless));
    let recursive = "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}";
    assert!(render(recursive, &[("user", "x")]).is_err());
}

#[test]
fn output_without_end_is_refused_before_it_is_held() {
    let flood = "{% set line = 'x' * 60000 %}{% for a in range(20000) %}{{ line }}{% endfor %}";
    assert_eq!(render(flood, &[("user", "x")]), Err(TemplateError::Endless));
}

#[test]
fn a_single_instruction_cannot_take_the_memory() {
    assert!(matches!(render("{{ 'x' * 100000000000 }}", &[]), Err(TemplateError::Refused { .. })));
    assert!(matches!(render("{{ range(100000000000) | list | length }}", &[]), Err(TemplateError::Refused { .. })));
}

#[test]
fn a_template_reaches_no_file() {
    for source in
        ["{% include '/etc/hostname' %}", "{% import '/etc/hostname' as x %}", "{% extends '/etc/hostname' %}"]
    {
        assert!(matches!(render(source, &[]), Err(TemplateError::Refused { .. })), "{source}");
    }
}

#[test]
fn errors_are_short() {
    let Err(TemplateError::Refused { reason }) =
        render("{{ raise_exception(messages[0].content) }}", &[("user", &"é".repeat(9999))])
    else {
        panic!("refused");
    };
    assert!(reason.chars().count() < ERROR_CHARS_MAX + 50);
}

#[test]
fn a_bad_date_format_is_an_error_and_no_panic() {
    assert!(matches!(render("{{ strftime_now('%Q %') }}", &[]), Err(TemplateError::Refused { .. })));
}

#[test]
fn the_longest_chat_that_is_allowed_renders() {
    let turns = vec![("user", "hello"); protocol::limits::MESSAGES_MAX];
    assert!(render(CHATML, &turns).unwrap().ends_with("assistant\n"));
    assert!(render(HEADERS, &turns).unwrap().ends_with("assistant<|end_header_id|>\n\n"));
}
