// Pictures as the server takes them: other formats, and those of too many pixels, are drawn again as PNG or JPEG.

const READ = ["image/png", "image/jpeg", "image/webp", "image/bmp", "image/tiff"];

export async function prepared(file, pixels) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  if (bitmap === null) {
    if (READ.includes(file.type)) return file; // the server says what is wrong with it
    throw new Error(`${file.name} is no picture that this browser can read.`);
  }
  const scale = Math.min(1, Math.sqrt(pixels / (bitmap.width * bitmap.height)));
  if (scale === 1 && READ.includes(file.type)) return file;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.floor(bitmap.width * scale));
  canvas.height = Math.max(1, Math.floor(bitmap.height * scale));
  canvas.getContext("2d").drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  const type = scale < 1 ? "image/jpeg" : "image/png";
  const blob = await new Promise((resolve) => canvas.toBlob(resolve, type, 0.95));
  return new File([blob], file.name.replace(/\.[^.]*$/, "") + (scale < 1 ? ".jpg" : ".png"), { type });
}
