//! Rows of `images` and of `system df -v`.

use super::{header, number, row, short_id, text};
use crate::go::time::{since, unix_string};
use crate::go::units::{human_duration, human_size, human_size_precision};
use crate::template::Row;
use hull_oci::reference::Reference;
use serde_json::Value;

/// The format of `images` for what was asked.
pub fn format(source: &str, quiet: bool, digests: bool) -> String {
    let digest = if digests { "{{.Digest}}\t" } else { "" };
    match source {
        "table" if quiet => "{{.ID}}".into(),
        "table" => format!(
            "table {{{{.Repository}}}}\t{{{{.Tag}}}}\t{digest}{{{{.ID}}}}\t{{{{if .CreatedSince }}}}{{{{.CreatedSince}}}}{{{{else}}}}N/A{{{{end}}}}\t{{{{.Size}}}}"
        ),
        "raw" if quiet => "image_id: {{.ID}}".into(),
        "raw" => {
            let digest = if digests { "digest: {{.Digest}}\n" } else { "" };
            format!(
                "repository: {{{{ .Repository }}}}\ntag: {{{{.Tag}}}}\n{digest}image_id: {{{{.ID}}}}\ncreated_at: {{{{.CreatedAt}}}}\nvirtual_size: {{{{.Size}}}}\n"
            )
        }
        source if source.starts_with("table") && digests && !source.contains("{{.Digest}}") => {
            format!("{source}\t{{{{.Digest}}}}")
        }
        source => source.to_owned(),
    }
}

/// Titles of the columns.
pub fn heads() -> Row {
    header(&[
        ("ID", "IMAGE ID"),
        ("Repository", "REPOSITORY"),
        ("Tag", "TAG"),
        ("Digest", "DIGEST"),
        ("CreatedSince", "CREATED"),
        ("CreatedAt", "CREATED AT"),
        ("Size", "SIZE"),
        ("Containers", "CONTAINERS"),
        ("VirtualSize", "SIZE"),
        ("SharedSize", "SHARED SIZE"),
        ("UniqueSize", "UNIQUE SIZE"),
    ])
}

/// The rows of one image: one for each name. `by_digest` gives a row for each digest, too; `need_digest` fills the column.
pub fn rows(image: &Value, trunc: bool, by_digest: bool, need_digest: bool) -> Vec<Row> {
    let names = |key: &str| -> Vec<Reference> {
        let list = image[key]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str);
        list.filter_map(|name| Reference::parse_normalized(name).ok())
            .collect()
    };
    let (tags, digests) = (names("RepoTags"), names("RepoDigests"));
    if tags.is_empty() && digests.is_empty() {
        return vec![columns(image, trunc, "<none>", "<none>", "<none>")];
    }
    let digests_of = |repo: &str| {
        digests
            .iter()
            .filter(|r| r.familiar_name() == repo)
            .filter_map(|r| r.digest.as_ref().map(ToString::to_string))
            .collect::<Vec<_>>()
    };
    let mut rows = Vec::new();
    let mut seen: Vec<String> = Vec::new();
    for reference in &tags {
        let repo = reference.familiar_name();
        let tag = reference.tag.as_deref().unwrap_or("<none>");
        let own = if need_digest {
            digests_of(&repo)
        } else {
            Vec::new()
        };
        if own.is_empty() {
            rows.push(columns(image, trunc, &repo, tag, "<none>"));
        }
        rows.extend(
            own.iter()
                .map(|digest| columns(image, trunc, &repo, tag, digest)),
        );
        seen.push(repo);
    }
    for reference in &digests {
        let repo = reference.familiar_name();
        if seen.contains(&repo) {
            continue;
        }
        if by_digest {
            rows.extend(
                digests_of(&repo)
                    .iter()
                    .map(|digest| columns(image, trunc, &repo, "<none>", digest)),
            );
        } else {
            rows.push(columns(image, trunc, &repo, "<none>", ""));
        }
        seen.push(repo);
    }
    rows
}

fn columns(image: &Value, trunc: bool, repo: &str, tag: &str, digest: &str) -> Row {
    let (id, created, size, shared) = (
        text(image, "Id"),
        number(image, "Created"),
        number(image, "Size"),
        number(image, "SharedSize"),
    );
    let containers = number(image, "Containers");
    let known = |value: i64, text: String| if value == -1 { "N/A".into() } else { text };
    row(
        "*formatter.imageContext",
        [
            ("ID", (if trunc { short_id(id) } else { id }).into()),
            ("Repository", repo.into()),
            ("Tag", tag.into()),
            ("Digest", digest.into()),
            (
                "CreatedSince",
                format!("{} ago", human_duration(since(created))).into(),
            ),
            ("CreatedAt", unix_string(created).into()),
            ("Size", human_size_precision(size as f64, 3).into()),
            (
                "Containers",
                known(containers, containers.to_string()).into(),
            ),
            ("VirtualSize", human_size(size as f64).into()),
            (
                "SharedSize",
                known(shared, human_size(shared as f64)).into(),
            ),
            (
                "UniqueSize",
                (if size == -1 || shared == -1 {
                    "N/A".to_owned()
                } else {
                    human_size((size - shared) as f64)
                })
                .into(),
            ),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn one_row_a_name() {
        let digest = "sha256:4bcff63911fcb4448bd4fdacec207030997caf25e9bea4045fa6c8c44de311d1";
        let image = json!({"Id": digest, "RepoTags": ["nginx:latest", "localhost:5000/x:1"], "RepoDigests": [format!("nginx@{digest}"), format!("only@{digest}")], "Size": 5_000_000, "SharedSize": -1, "Containers": -1});
        let shown = |by_digest, need| {
            rows(&image, true, by_digest, need)
                .iter()
                .map(|row| {
                    format!(
                        "{} {} {}",
                        row.fields["Repository"], row.fields["Tag"], row.fields["Digest"]
                    )
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(
            shown(false, false),
            [
                "\"nginx\" \"latest\" \"<none>\"",
                "\"localhost:5000/x\" \"1\" \"<none>\"",
                "\"only\" \"<none>\" \"\""
            ]
        );
        assert_eq!(
            shown(true, true)[0],
            format!("\"nginx\" \"latest\" \"{digest}\"")
        );
        let dangling = json!({"Id": digest, "RepoTags": [], "RepoDigests": []});
        assert_eq!(
            rows(&dangling, true, false, false)[0].fields["Repository"],
            "<none>"
        );
    }
}
