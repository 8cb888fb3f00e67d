//! Going on with an answer that another engine began.
//!
//! The tokens say everything: replayed through the assembler they make the text that was sent, the unfinished character
//! and the undecided beginning of a stop string that were not, and whether the answer had ended. The one thing that they
//! do not show is the model's end marker. It shows in the text: what waits for a decision is sent only at the end.

use super::Answer;
use protocol::task::{Finish, Resume, TaskError};
use zeroize::Zeroizing;

impl Answer {
    pub(super) fn replay(
        &mut self,
        resume: &Resume,
        mut piece: impl FnMut(u32, &mut Vec<u8>),
    ) -> Result<(), TaskError> {
        let received = usize::try_from(resume.text_bytes).unwrap_or(usize::MAX);
        let mut text = Zeroizing::new(String::new());
        if let Some((last, before)) = resume.ids.split_last() {
            if resume.ids.len() > self.limit as usize {
                return Err(invalid("the answer to resume is longer than it may get"));
            }
            let mut bytes = Zeroizing::new(Vec::new());
            before.iter().for_each(|id| piece(*id, &mut bytes));
            // All at once: text does not depend on how it is cut, and many stop strings make each piece expensive.
            if self.text.push(&bytes, &mut text) {
                return Err(invalid("the answer to resume goes on behind a stop string"));
            }
            self.generated = u32::try_from(before.len()).expect("below the limit");
            bytes.clear();
            piece(*last, &mut bytes);
            self.add(&bytes, &mut text);
        }
        if received > text.len() && self.finish.is_none() {
            // What waited was sent, so the model had ended.
            self.text.finish(&mut text);
            self.finish = Some(Finish::Stop);
        }
        match text.get(received..) {
            Some(missing) => self.missing = Zeroizing::new(missing.to_owned()),
            None => return Err(invalid("the tokens of the answer to resume do not make the text that was received")),
        }
        Ok(())
    }
}

fn invalid(why: &str) -> TaskError {
    TaskError::Invalid { message: why.to_owned() }
}
