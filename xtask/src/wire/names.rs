//! Kafka's names as Rust writes them.

/// `TopicId`, `topicId` → `topic_id`.
pub(super) fn snake(name: &str) -> String {
    let letters: Vec<char> = name.chars().collect();
    let mut snake = String::new();
    for (at, letter) in letters.iter().enumerate() {
        let after_lower = at > 0 && !letters[at - 1].is_uppercase();
        let before_lower = at > 0 && letters.get(at + 1).is_some_and(|next| next.is_lowercase());
        if letter.is_uppercase() && (after_lower || before_lower) {
            snake.push('_');
        }
        snake.extend(letter.to_lowercase());
    }
    snake
}

/// A field's name: `Type` → `r#type`.
pub(super) fn field(name: &str) -> String {
    match snake(name).as_str() {
        "type" => String::from("r#type"),
        "match" => String::from("r#match"),
        other => String::from(other),
    }
}

/// `UNKNOWN_TOPIC_ID` → `UnknownTopicId`.
pub(super) fn camel(name: &str) -> String {
    name.split('_')
        .map(|word| {
            let (first, rest) = word.split_at(1);
            first.to_uppercase() + &rest.to_lowercase()
        })
        .collect()
}
