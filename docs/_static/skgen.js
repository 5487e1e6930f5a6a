/* Names for what the theme leaves without one, for those who listen to a page. */
document.addEventListener("DOMContentLoaded", () => {
  for (const toggle of document.querySelectorAll("nav summary:not([aria-label])"))
    toggle.setAttribute("aria-label", "Pages below");
});
