"""Names that become folders name folders inside, and links lead nowhere else."""

import pytest

from theory.checks import check_folder_name, check_links


@pytest.mark.parametrize("name", ["a", "class_weighting", "tiny-qwen2", "9", "A-_"])
def test_a_name_of_a_folder_is_returned(name):
    assert check_folder_name("name", name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/a", "a\\b", "a b", "a\n", "-a", "_a", ".a", "a.b", "ä"]
)
def test_what_could_name_something_else_is_refused(name):
    with pytest.raises(ValueError, match="name of the study must be made of letters, digits, - and _, as a folder"):
        check_folder_name("name of the study", name)


@pytest.fixture
def root(tmp_path):
    """Return a folder of results beside a folder that is none of them."""
    (tmp_path / "results" / "study").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    return tmp_path / "results"


def test_links_within_the_root_and_new_folders_are_fine(root):
    (root / "study" / "again").symlink_to(root / "study")
    check_links(root / "study", root)
    check_links(root / "new", root)


@pytest.mark.parametrize("target", ["elsewhere", "results-of-another", "../elsewhere", "nowhere"])
def test_a_link_out_of_the_root_is_refused(root, target):
    (root / "study" / "parts").symlink_to(root.parent / target)
    with pytest.raises(OSError, match=r"results must stay in .*results, got .*/study/parts, which is a link to "):
        check_links(root / "study", root)


def test_the_folder_itself_may_not_be_such_a_link(root):
    (root / "other").symlink_to(root.parent / "elsewhere")
    with pytest.raises(OSError, match=r"got .*/other, which is a link to .*elsewhere"):
        check_links(root / "other", root)


def test_a_root_that_is_itself_a_link_is_where_it_leads(root):
    (root.parent / "link").symlink_to(root)
    check_links(root.parent / "link" / "study", root.parent / "link")
