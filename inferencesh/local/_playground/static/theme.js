// Applies the chosen theme before the page is drawn; a plain script, so that the page does not flash.
(() => {
  const theme = localStorage.getItem("inferencesh-theme");
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
