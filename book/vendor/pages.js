// What the theme, Sphinx and pandas leave out for those who read by ear; axe-core finds each of them in tests/book/test_access.py.
"use strict";

document.addEventListener("DOMContentLoaded", function () {
  function each(selector, change) { document.querySelectorAll(selector).forEach(change); }
  function without(name) { return function (element) { element.removeAttribute(name); }; }

  // the corner of a data frame heads nothing
  each("th:empty", function (corner) { corner.replaceWith(document.createElement("td")); });
  // their words are their names
  each(".search-button-field, summary[aria-label='Toggle hidden content']", without("aria-label"));
  // a list of citations holds anchors, too, and ARIA has no entries any more
  each(".citation-list, .citation", without("role"));
  // all that is beside the text belongs to some landmark
  each(".bd-sidebar-primary", function (side) {
    side.setAttribute("role", "region");
    side.setAttribute("aria-label", "The book");
  });
});
